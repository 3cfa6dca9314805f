private import CLinux
private import Glibc
package import OVXDatapath
private import SystemPackage

/// A network device, as the kernel describes it (`RTM_NEWLINK`).
package struct Link: Equatable, Sendable {
  /// The device's number in its namespace.
  ///
  /// It stays through renaming, and is not given out again for a long time.
  package var index: Int32
  package var name: String
  /// The Ethernet address; `nil` for a device with addresses of another length.
  package var address: MACAddress?
  /// The largest packet it takes, in bytes, without the Ethernet header.
  package var mtu: Int
  /// The smallest MTU it can have, in bytes.
  package var minimumMTU: Int
  /// The largest MTU it can have, in bytes; `nil` where the kernel sets no limit.
  package var maximumMTU: Int?
  package var flags: Flags
  /// Whether frames on it have Ethernet headers (`ARPHRD_ETHER`), which a port needs.
  package var isEthernet: Bool
  /// The kind of virtual device, "veth", "tun" (TAPs too), "vxlan", "bridge", …; `nil` for a
  /// physical one and loopback.
  package var kind: String?
  /// The index of the bridge or bond it is part of.
  package var master: Int32?
  /// The index of the device it is tied to: a veth's other end, a VLAN's parent.
  ///
  /// In another namespace where `peerNamespace` is given.
  package var peer: Int32?
  /// This namespace's number for the one in which `peer` is (`IFLA_LINK_NETNSID`).
  package var peerNamespace: Int32?
  /// The largest superframe the kernel hands to it, in bytes with headers.
  package var gsoMaxSize: Int?
  /// The same for IPv4, of kernels since 6.3.
  package var gsoIPv4MaxSize: Int?
  /// The largest superframe the device itself can cut, in bytes; `gsoMaxSize` may not exceed it.
  package var tsoMaxSize: Int?
  /// Frames that may wait to be sent; of a TAP, to be read.
  package var queueLength: Int?
  /// A text for people, up to 255 bytes.
  package var alias: String?
  package var group: UInt32
  /// What a device of kind "vxlan" does; `nil` for others.
  package var vxlan: VXLAN?

  /// State and mode of a device: the `IFF_...` flags of <linux/if.h>, of which unnamed ones are
  /// kept.
  package struct Flags: OptionSet, Hashable, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    /// Switched on by its administrator: `IFF_UP`.
    package static let up = Flags(rawValue: 0x1)
    /// `IFF_LOOPBACK`.
    package static let loopback = Flags(rawValue: 0x8)
    /// Able to carry frames: `IFF_RUNNING`.
    package static let running = Flags(rawValue: 0x40)
    /// Has a carrier: `IFF_LOWER_UP`.
    package static let carrier = Flags(rawValue: 0x10000)
  }

  /// The settings of a kernel VXLAN device that matter to a neighbor on the same host.
  package struct VXLAN: Equatable, Sendable {
    /// `nil` for a device of many VNIs, which takes them from routes or a controller.
    package var vni: VNI?
    /// The UDP port it receives on, which nobody else can bind while it is up.
    package var port: UInt16
  }

  package var isUp: Bool { flags.contains(.up) }
  /// Whether it is up and its other side is there.
  package var isRunning: Bool { flags.contains(.running) }
}

extension Netlink {
  /// All devices of the namespace.
  ///
  /// While devices come and go without pause, some that have gone may be among them; see
  /// `LinkEvents` to hear of it.
  package mutating func links() throws(LinuxError) -> [Link] {
    try dump(
      Self.linkRequest(flags: NLM_F_DUMP),
      for: Purpose(action: "list", subject: "network devices"),
      key: \.index,
      decode: Link.init(_:)
    )
  }

  /// The device with a name or an alternative name; `nil` where there is none.
  package mutating func link(named name: String) throws(LinuxError) -> Link? {
    // The kernel's limit for a name is 15 bytes; alternative names have up to 127.
    guard (1...127).contains(name.utf8.count) else { return nil }
    var request = Self.linkRequest()
    request.put(Int(name.utf8.count <= 15 ? IFLA_IFNAME : IFLA_ALT_IFNAME), name)
    return try link(request, name)
  }

  /// The device with an index; `nil` where there is none.
  package mutating func link(index: Int32) throws(LinuxError) -> Link? {
    guard index > 0 else { return nil }
    return try link(Self.linkRequest(index: index), "network device \(index)")
  }

  private mutating func link(
    _ request: consuming NetlinkRequest,
    _ subject: String
  ) throws(LinuxError) -> Link? {
    var link: Link?
    do {
      try transact(request, for: Purpose(action: "look up", subject: subject)) { message in
        if let answer = Link(message) { link = answer }
      }
    } catch  where error.errno == .operationNotSupportedByDevice {
      return nil
    }
    return link
  }

  private static func linkRequest(index: Int32 = 0, flags: Int32 = 0) -> NetlinkRequest {
    var family = ifinfomsg()
    family.ifi_index = index
    var request = NetlinkRequest(type: Int(RTM_GETLINK), flags: flags, family: family)
    // Spares both sides the statistics, which are half of the answer.
    request.put(Int(IFLA_EXT_MASK), UInt32(RTEXT_FILTER_SKIP_STATS))
    return request
  }
}

extension Link {
  /// Decodes a description; `nil` for messages about something else.
  ///
  /// Bridges and wireless devices tell their news in messages of the same type, which describe no
  /// device.
  init?(_ message: NetlinkMessage) {
    guard message.type == Int(RTM_NEWLINK) else { return nil }
    self.init(describedBy: message)
  }

  /// Decodes the description that a message of any type carries, such as a farewell.
  init?(describedBy message: NetlinkMessage) {
    guard let header = message.family(as: ifinfomsg.self),
      Int32(header.ifi_family) == AF_UNSPEC, header.ifi_index > 0
    else { return nil }
    var link = Link(
      index: header.ifi_index,
      name: "",
      mtu: -1,
      minimumMTU: 0,
      flags: Flags(rawValue: header.ifi_flags),
      isEthernet: header.ifi_type == ARPHRD_ETHER,
      group: 0
    )
    message.forEachAttribute(after: MemoryLayout<ifinfomsg>.size) { type, value in
      link.take(type, value)
    }
    guard !link.name.isEmpty, link.mtu >= 0 else { return nil }
    if link.kind != "vxlan" { link.vxlan = nil }
    self = link
  }

  private mutating func take(_ type: Int, _ value: RawSpan) {
    let number = value.uint32.map(Int.init)
    switch type {
    case Int(IFLA_IFNAME): name = value.text
    case Int(IFLA_ADDRESS): address = value.macAddress
    case Int(IFLA_MTU): mtu = number ?? mtu
    case Int(IFLA_MIN_MTU): minimumMTU = number ?? minimumMTU
    case Int(IFLA_MAX_MTU): maximumMTU = number == 0 ? nil : number
    case Int(IFLA_MASTER): master = value.int32
    case Int(IFLA_LINK): peer = value.int32.flatMap { $0 > 0 ? $0 : nil }
    case Int(IFLA_LINK_NETNSID): peerNamespace = value.int32
    case Int(IFLA_GSO_MAX_SIZE): gsoMaxSize = number
    case Int(OVX_IFLA_GSO_IPV4_MAX_SIZE): gsoIPv4MaxSize = number
    case Int(IFLA_TSO_MAX_SIZE): tsoMaxSize = number
    case Int(IFLA_TXQLEN): queueLength = number
    case Int(IFLA_IFALIAS): alias = value.text
    case Int(IFLA_GROUP): group = value.uint32 ?? group
    case Int(IFLA_LINKINFO): takeInfo(value)
    default: break
    }
  }

  /// Reads the nest that says of which kind the device is and how it is set up.
  private mutating func takeInfo(_ info: RawSpan) {
    info.forEachAttribute { type, value in
      if type == Int(IFLA_INFO_KIND) { kind = value.text }
      // The numbers below mean this for the kind "vxlan" only, which is looked at once all is read.
      guard type == Int(IFLA_INFO_DATA) else { return }
      var vxlan = VXLAN(vni: nil, port: 0)
      var isCollecting = false
      value.forEachAttribute { type, value in
        switch type {
        case Int(IFLA_VXLAN_ID): vxlan.vni = value.uint32.flatMap(VNI.init(rawValue:))
        case Int(IFLA_VXLAN_PORT): vxlan.port = value.uint16.map { UInt16(bigEndian: $0) } ?? 0
        case Int(IFLA_VXLAN_COLLECT_METADATA): isCollecting = value.uint8 == 1
        default: break
        }
      }
      if isCollecting { vxlan.vni = nil }
      self.vxlan = vxlan
    }
  }
}

/// The type of a device with Ethernet headers (`ARPHRD_ETHER` of <linux/if_arp.h>).
private let ARPHRD_ETHER: UInt16 = 1
