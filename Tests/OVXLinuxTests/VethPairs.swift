import CLinux
import OVXDatapath
import SystemPackage

@testable import OVXLinux

/// One end of a veth pair to be made.
struct VethEnd: Sendable {
  var name: String
  /// Its Ethernet address; `nil` lets the kernel draw a random one.
  var address: MACAddress?
  /// Its MTU in bytes; `nil` is the kernel's default of 1500.
  var mtu: Int?
  /// The namespace to make it in; `nil` is the socket's.
  var namespace: NetworkNamespace?

  init(
    _ name: String,
    address: MACAddress? = nil,
    mtu: Int? = nil,
    namespace: NetworkNamespace? = nil
  ) {
    self.name = name
    self.address = address
    self.mtu = mtu
    self.namespace = namespace
  }
}

extension Netlink {
  /// Makes a pair of devices, each of which receives what the other sends (veth(4)).
  ///
  /// Both are down.
  ///
  /// - Throws: `EEXIST` where a name is taken.
  mutating func createVeth(_ end: VethEnd, peer: VethEnd) throws(LinuxError) {
    var request = NetlinkRequest(
      type: Int(RTM_NEWLINK),
      flags: NLM_F_CREATE | NLM_F_EXCL,
      family: ifinfomsg()
    )
    request.put(end)
    request.nest(Int(IFLA_LINKINFO)) { info in
      info.put(Int(IFLA_INFO_KIND), "veth")
      info.nest(Int(IFLA_INFO_DATA)) { data in
        data.nest(Int(VETH_INFO_PEER)) { nest in
          nest.put(ifinfomsg())
          nest.put(peer)
        }
      }
    }
    let subject = "\(end.name) and \(peer.name)"
    try transact(
      request,
      for: Purpose(action: "create the veth pair", subject: subject) { errno in
        errno == .fileExists
          ? "one of the names is taken; delete that device or choose another" : nil
      }
    )
  }
}

extension NetlinkRequest {
  /// Appends what describes a device to be made.
  fileprivate mutating func put(_ end: VethEnd) {
    put(Int(IFLA_IFNAME), end.name)
    if let address = end.address { put(Int(IFLA_ADDRESS), address) }
    if let mtu = end.mtu { put(Int(IFLA_MTU), UInt32(clamping: mtu)) }
    if let namespace = end.namespace {
      put(Int(IFLA_NET_NS_FD), descriptor: namespace.rawValue)
    }
  }
}
