private import CLinux
package import OVXDatapath
private import SystemPackage

/// What the kernel knows of a host on one of its links (`RTM_NEWNEIGH`).
struct KernelNeighbor {
  var linkIndex: Int32
  var address: IPAddress
  /// `nil` while the kernel does not know it, or does not believe it any more.
  var linkAddress: MACAddress?
  /// Whether somebody has said so for good (`NUD_PERMANENT`).
  var isPermanent: Bool

  /// Decodes a message; `nil` for one of another kind, and for entries of bridges and vxlan
  /// devices.
  init?(_ message: NetlinkMessage) {
    guard message.type == Int(RTM_NEWNEIGH) || message.type == Int(RTM_DELNEIGH),
      let header = message.family(as: ndmsg.self)
    else { return nil }
    var address: IPAddress?
    var linkAddress: MACAddress?
    message.forEachAttribute(after: MemoryLayout<ndmsg>.size) { type, value in
      switch type {
      case Int(NDA_DST): address = value.ipAddress
      case Int(NDA_LLADDR): linkAddress = value.macAddress
      default: break
      }
    }
    guard let address else { return nil }
    linkIndex = header.ndm_ifindex
    isPermanent = Int32(header.ndm_state) & NUD_PERMANENT != 0
    self.address = address
    // What the kernel itself would send to: NUD_VALID, without devices that have no addresses
    // (NUD_NOARP).
    let usable =
      NUD_PERMANENT | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY
    if Int32(header.ndm_state) & usable != 0, message.type == Int(RTM_NEWNEIGH) {
      self.linkAddress = linkAddress
    }
  }
}

extension Netlink {
  /// The Ethernet address of a host on a link; `nil` where the kernel does not know it at the
  /// moment.
  ///
  /// Nothing is asked of the host: the kernel does that once it has something to send.
  package mutating func linkAddress(
    of address: IPAddress, on linkIndex: Int32
  ) throws(LinuxError) -> MACAddress? {
    var family = ndmsg()
    family.ndm_family = UInt8(truncatingIfNeeded: address.family)
    family.ndm_ifindex = linkIndex
    var request = NetlinkRequest(type: Int(RTM_GETNEIGH), flags: 0, family: family)
    request.put(Int(NDA_DST), address)
    var result: MACAddress?
    do {
      try transact(
        request, for: Purpose(action: "look up the neighbor", subject: address.description)
      ) { message in
        if let neighbor = KernelNeighbor(message) { result = neighbor.linkAddress }
      }
    } catch  where error.errno == .noSuchFileOrDirectory {
      return nil
    }
    return result
  }

  /// The hosts on a link that are at an Ethernet address for good, as somebody has said.
  package mutating func permanentNeighbors(on link: Link) throws(LinuxError) -> Set<IPAddress> {
    let request = NetlinkRequest(type: Int(RTM_GETNEIGH), flags: NLM_F_DUMP, family: ndmsg())
    let neighbors = try dump(
      request, for: Purpose(action: "list neighbors on", subject: link.name), key: \.address
    ) { message -> KernelNeighbor? in
      guard let neighbor = KernelNeighbor(message), neighbor.linkIndex == link.index,
        neighbor.isPermanent
      else { return nil }
      return neighbor
    }
    return Set(neighbors.map(\.address))
  }

  /// Says for good at which Ethernet address a host on a link is.
  package mutating func setPermanentNeighbor(
    _ address: IPAddress, at linkAddress: MACAddress, on link: Link
  ) throws(LinuxError) {
    var request = Self.neighborRequest(
      Int(RTM_NEWNEIGH), flags: NLM_F_CREATE | NLM_F_REPLACE, address, link)
    request.put(Int(NDA_LLADDR), linkAddress)
    try transact(request, for: Purpose(action: "set the neighbor", subject: address.description))
  }

  /// Forgets a host on a link; one that is not known is none to forget.
  package mutating func removeNeighbor(_ address: IPAddress, from link: Link) throws(LinuxError) {
    do {
      try transact(
        Self.neighborRequest(Int(RTM_DELNEIGH), flags: 0, address, link),
        for: Purpose(action: "remove the neighbor", subject: address.description))
    } catch  where error.errno == .noSuchFileOrDirectory {}
  }

  private static func neighborRequest(
    _ type: Int, flags: Int32, _ address: IPAddress, _ link: Link
  ) -> NetlinkRequest {
    var family = ndmsg()
    family.ndm_family = UInt8(truncatingIfNeeded: address.family)
    family.ndm_ifindex = link.index
    family.ndm_state = UInt16(truncatingIfNeeded: NUD_PERMANENT)
    var request = NetlinkRequest(type: type, flags: flags, family: family)
    request.put(Int(NDA_DST), address)
    return request
  }
}
