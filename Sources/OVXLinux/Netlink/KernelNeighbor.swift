private import CLinux
package import OVXDatapath
private import SystemPackage

/// What the kernel knows of a host on one of its links (`RTM_NEWNEIGH`).
struct KernelNeighbor {
  var linkIndex: Int32
  var address: IPAddress
  /// `nil` while the kernel does not know it, or does not believe it any more.
  var linkAddress: MACAddress?

  /// Decodes a message; `nil` for one of another kind, and for entries of bridges and vxlan devices.
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
    self.address = address
    // What the kernel itself would send to: NUD_VALID, without devices that have no addresses (NUD_NOARP).
    let usable =
      NUD_PERMANENT | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY
    if Int32(header.ndm_state) & usable != 0, message.type == Int(RTM_NEWNEIGH) {
      self.linkAddress = linkAddress
    }
  }
}

extension Netlink {
  /// The Ethernet address of a host on a link; `nil` where the kernel does not know it at the moment.
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
}
