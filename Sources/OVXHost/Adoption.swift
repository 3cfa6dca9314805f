internal import OVXLinux
private import SystemPackage

/// A veth of somebody else's that has the MTU that its tunnels carry from us, and what it had
/// before.
///
/// The kernel gives a new veth 1500 bytes, and with an underlay of 1500 a tunnel carries less. So
/// both ends get what fits, the other one first: a veth drops, without a word to the sender, what
/// is larger than the end where it arrives takes. Where the other end cannot be reached, neither is
/// touched, and the data plane answers what is too large.
struct Adoption: Equatable {
  /// The MTU that its owner gave our end, in bytes.
  let ownMTU: Int
  /// The same of the other end.
  let peerMTU: Int
  /// What both have from us.
  let givenMTU: Int

  /// Gives a veth the MTU that fits, or what it had before where nothing limits it any more.
  ///
  /// - Parameters:
  ///   - link: Our end.
  ///   - bound: The largest packet that the tunnels of its segments carry; `nil` without tunnels.
  ///   - former: What was given to it before; `nil` for nothing.
  ///   - netlink: A socket of the namespace that our end is in.
  /// - Returns: What it has from us now; `nil` where it has its own MTU.
  /// - Throws: What the kernel refuses, or that the other end cannot be reached.
  static func fit(
    _ link: Link, to bound: SizeBound?, former: Adoption?, _ netlink: inout Netlink
  ) throws(LinuxError) -> Adoption? {
    // Whoever has changed it since wants it as it is, until the limit is another one.
    let former = former.flatMap { $0.givenMTU == link.mtu ? $0 : nil }
    let ownMTU = former?.ownMTU ?? link.mtu
    let limit = bound?.mtu ?? ownMTU
    guard former != nil || ownMTU > limit else { return nil }
    guard let (end, namespace) = try netlink.otherEnd(of: link), end.master == nil else {
      throw LinuxError(
        action: "set the MTU of", subject: "the other end of \(link.name)",
        errno: .operationNotSupportedByDevice)
    }
    // IPv6 is lost with less than that, for good.
    let keepsIPv6 =
      limit < MTU.ipv6MinimumMTU && ProcSettings.hasIPv6(on: end.name, in: namespace)
    let mtu = min(ownMTU, keepsIPv6 ? MTU.ipv6MinimumMTU : limit)
    let peerMTU = former?.peerMTU ?? end.mtu
    let peerTarget = bound == nil ? peerMTU : min(peerMTU, mtu)
    var peerNetlink = try Netlink(in: namespace)
    // What arrives at an end may never be larger than the end takes.
    if mtu > link.mtu { try netlink.setMTU(mtu, of: link) }
    if end.mtu != peerTarget { try peerNetlink.setMTU(peerTarget, of: end) }
    if mtu < link.mtu { try netlink.setMTU(mtu, of: link) }
    return mtu == ownMTU && peerTarget == peerMTU
      ? nil : Adoption(ownMTU: ownMTU, peerMTU: peerMTU, givenMTU: mtu)
  }
}

extension PortDevices {
  /// Why frames of a port may be larger than others of its segments take, which it is to be told
  /// of.
  ///
  /// - Parameters:
  ///   - mtu: The MTU that its device has, as far as that is our doing.
  ///   - isAsked: Whether an operator has asked for just that MTU.
  ///   - bound: The largest packet that the segments take.
  /// - Returns: The fault; `nil` where all fits.
  static func sizeFault(mtu: Int?, isAsked: Bool, bound: SizeBound?) -> Fault? {
    guard let mtu, let bound, mtu > bound.mtu else { return nil }
    let reason =
      isAsked
      ? "its MTU of \(mtu) is what mtu_request asks for"
      : "its MTU stays at \(mtu), which IPv6 needs"
    return .partial(
      "\(bound.owner) takes packets of up to \(bound.mtu) bytes, and \(reason); "
        + "larger ones are dropped there")
  }
}
