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
  /// What both have from us, or are about to get.
  let givenMTU: Int
  /// What they had from us before that, and may still have where it was noted and not done.
  var earlierMTU: Int?

  /// What an end may have from us.
  private func isGiven(_ mtu: Int, to own: Int) -> Bool {
    [givenMTU, earlierMTU ?? givenMTU].contains { min(own, $0) == mtu }
  }

  /// Whether a note is of a device as it is: whoever has given our end another MTU since wants it
  /// as it is, until the limit is another one.
  ///
  /// Between the first step and the last one, and back, our end has what it has from us, or what it
  /// had before.
  private func applies(to mtu: Int) -> Bool { mtu == ownMTU || isGiven(mtu, to: ownMTU) }

  /// Whether there may be anything to do about a device.
  ///
  /// - Parameters:
  ///   - mtu: Our end's MTU.
  ///   - bound: The largest packet that the tunnels of its segments carry; `nil` without tunnels.
  ///   - former: What was given to it before; `nil` for nothing.
  /// - Returns: Whether it is too large, or has something from us.
  static func concerns(_ mtu: Int, bound: SizeBound?, former: Adoption?) -> Bool {
    former?.applies(to: mtu) == true || mtu > bound?.mtu ?? mtu
  }

  /// Gives a veth the MTU that fits, or what it had before where nothing limits it any more.
  ///
  /// Each step may be the last one before a crash, after which the next daemon does the rest of it,
  /// or takes it back.
  ///
  /// - Parameters:
  ///   - ends: The veth.
  ///   - bound: The largest packet that the tunnels of its segments carry; `nil` without tunnels.
  ///   - former: What was given to it before; `nil` for nothing.
  ///   - note: Notes what it is about to get, before it gets any of it.
  /// - Returns: What it has from us now; `nil` where it has its own MTU.
  /// - Throws: What the kernel refuses.
  static func fit(
    _ ends: inout some VethEnds, to bound: SizeBound?, former: Adoption?,
    noting note: (Adoption) -> Void
  ) throws(LinuxError) -> Adoption? {
    guard concerns(ends.ownMTU, bound: bound, former: former) else { return nil }
    let former = former.flatMap { $0.applies(to: ends.ownMTU) ? $0 : nil }
    let ownMTU = former?.ownMTU ?? ends.ownMTU
    var peerMTU = ends.peerMTU
    if let former, former.isGiven(peerMTU, to: former.peerMTU) { peerMTU = former.peerMTU }
    let limit = bound?.mtu ?? ownMTU
    // IPv6 is lost with less than that, for good.
    let keepsIPv6 = limit < MTU.ipv6MinimumMTU && ends.hasIPv6
    let mtu = min(ownMTU, keepsIPv6 ? MTU.ipv6MinimumMTU : limit)
    let peerTarget = bound == nil ? peerMTU : min(peerMTU, mtu)
    let adoption =
      mtu == ownMTU && peerTarget == peerMTU
      ? nil : Adoption(ownMTU: ownMTU, peerMTU: peerMTU, givenMTU: mtu)
    if let adoption { note(adoption) }
    // What arrives at an end may never be larger than the end takes.
    if mtu > ends.ownMTU { try ends.setOwnMTU(mtu) }
    if ends.peerMTU != peerTarget { try ends.setPeerMTU(peerTarget) }
    if mtu < ends.ownMTU { try ends.setOwnMTU(mtu) }
    return adoption
  }
}

/// The two ends of a veth: ours, and the one that a container has as a rule.
protocol VethEnds {
  var ownMTU: Int { get }
  var peerMTU: Int { get }
  /// Whether the other end has IPv6.
  var hasIPv6: Bool { get }
  mutating func setOwnMTU(_ mtu: Int) throws(LinuxError)
  mutating func setPeerMTU(_ mtu: Int) throws(LinuxError)
}

/// The ends of a veth of the kernel's.
struct KernelVethEnds: VethEnds {
  private var own: Link
  private var peer: Link
  private let namespace: NetworkNamespace

  /// Finds the other end.
  ///
  /// - Parameters:
  ///   - link: Our end.
  ///   - netlink: A socket of the namespace that it is in.
  /// - Throws: That the other end cannot be reached.
  init(of link: Link, _ netlink: inout Netlink) throws(LinuxError) {
    guard let (end, namespace) = try netlink.otherEnd(of: link), end.master == nil else {
      throw LinuxError(
        action: "set the MTU of", subject: "the other end of \(link.name)",
        errno: .operationNotSupportedByDevice)
    }
    own = link
    peer = end
    self.namespace = namespace
  }

  var ownMTU: Int { own.mtu }
  var peerMTU: Int { peer.mtu }
  var hasIPv6: Bool { ProcSettings.hasIPv6(on: peer.name, in: namespace) }

  mutating func setOwnMTU(_ mtu: Int) throws(LinuxError) {
    var netlink = try Netlink()
    try netlink.setMTU(mtu, of: own)
    own.mtu = mtu
  }

  mutating func setPeerMTU(_ mtu: Int) throws(LinuxError) {
    var netlink = try Netlink(in: namespace)
    try netlink.setMTU(mtu, of: peer)
    peer.mtu = mtu
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
