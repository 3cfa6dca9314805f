private import CLinux
package import OVXDatapath
private import SystemPackage

/// A route as it stands in a table, or is to stand there.
package struct RouteEntry: Hashable, Sendable {
  /// Where it leads; all zeros for everywhere.
  package var destination: IPAddress
  /// Leading bits of the destination that count, 0...32 or 0...128.
  package var prefixLength: UInt8
  /// The next hop; `nil` for neighbors on the link.
  package var gateway: IPAddress?
  /// The largest packet by this route, in bytes; `nil` for the device's.
  package var mtu: UInt32?
  /// The MSS that TCP announces, in bytes; `nil` for what follows from the MTU.
  package var advertisedMSS: UInt32?
  /// Of several routes to a destination, the one with the least counts; `nil` for the kernel's
  /// choice.
  package var priority: UInt32?
  /// The table it stands in; `nil` for the main one.
  package var table: UInt32?
  /// How far away destinations are, `RT_SCOPE_...`; `nil` for what follows from the gateway.
  package var scope: UInt8?
  /// The index of the device; `nil` where there are several, or none.
  package var linkIndex: Int32?
  /// The address that the host sends from by it; `nil` for the kernel's choice.
  package var source: IPAddress?
  /// Who has made it.
  package var origin = RouteOrigin.administrator

  package init(destination: IPAddress, prefixLength: UInt8, gateway: IPAddress? = nil) {
    self.destination = destination
    self.prefixLength = prefixLength
    self.gateway = gateway
  }

  /// Whether it stands in the main table.
  package var isInMainTable: Bool { table.map { $0 == UInt32(RT_TABLE_MAIN.rawValue) } ?? true }

  /// Whether it leads everywhere.
  package var isDefault: Bool { prefixLength == 0 }

  /// The destination without the bits that do not count.
  package var maskedDestination: IPAddress {
    let octets = destination.octets.enumerated().map { index, octet in
      let bits = Int(prefixLength) - 8 * index
      return bits >= 8 ? octet : bits <= 0 ? 0 : octet & ~(0xFF >> UInt8(bits))
    }
    return IPAddress(octets: octets) ?? destination
  }
}

/// Who has made a route, as the kernel remembers it (`rtm_protocol` of <linux/rtnetlink.h>).
package struct RouteOrigin: RawRepresentable, Hashable, Sendable {
  package let rawValue: UInt8
  package init(rawValue: UInt8) { self.rawValue = rawValue }

  /// What `ip route add` and others who do not say give: `RTPROT_BOOT`, `RTPROT_STATIC`.
  package static let administrator = RouteOrigin(rawValue: UInt8(RTPROT_STATIC))
  /// The kernel, with an address: `RTPROT_KERNEL`.
  package static let kernel = RouteOrigin(rawValue: UInt8(RTPROT_KERNEL))
  /// The kernel, of a router advertisement: `RTPROT_RA`.
  package static let routerAdvertisement = RouteOrigin(rawValue: UInt8(RTPROT_RA))
  /// A client of DHCP: `RTPROT_DHCP`.
  package static let dhcp = RouteOrigin(rawValue: UInt8(RTPROT_DHCP))
  /// ovx-vswitchd, for a route of the configuration; the number of `AddressMark.ovx`.
  package static let ovx = RouteOrigin(rawValue: 111)
}

extension Netlink {
  /// The unicast routes of all tables but the one of the host's own addresses.
  package mutating func routes() throws(LinuxError) -> [RouteEntry] {
    var routes: [RouteEntry] = []
    for family in [AF_INET, AF_INET6] {
      var header = rtmsg()
      header.rtm_family = UInt8(truncatingIfNeeded: family)
      routes += try dump(
        NetlinkRequest(type: Int(RTM_GETROUTE), flags: NLM_F_DUMP, family: header),
        for: Purpose(action: "list", subject: "routes"), key: \.self, decode: RouteEntry.init)
    }
    return routes
  }

  /// Adds a route by a device.
  ///
  /// - Parameters:
  ///   - route: The route; bits of its destination that do not count may be anything.
  ///   - link: A device that is up.
  /// - Throws: `EEXIST` where there is such a route, `ENETUNREACH` or `EHOSTUNREACH` where its
  ///   gateway is no neighbor.
  package mutating func add(_ route: RouteEntry, on link: Link) throws(LinuxError) {
    var family = rtmsg()
    family.rtm_family = UInt8(truncatingIfNeeded: route.destination.family)
    family.rtm_dst_len = route.prefixLength
    family.rtm_table = UInt8(truncatingIfNeeded: RT_TABLE_UNSPEC.rawValue)
    family.rtm_protocol = route.origin.rawValue
    let nearby = route.gateway == nil ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE
    family.rtm_scope = route.scope ?? UInt8(truncatingIfNeeded: nearby.rawValue)
    family.rtm_type = UInt8(truncatingIfNeeded: RTN_UNICAST)
    var request = NetlinkRequest(
      type: Int(RTM_NEWROUTE), flags: NLM_F_CREATE | NLM_F_EXCL, family: family)
    if !route.isDefault { request.put(Int(RTA_DST.rawValue), route.maskedDestination) }
    if let gateway = route.gateway { request.put(Int(RTA_GATEWAY.rawValue), gateway) }
    request.put(Int(RTA_OIF.rawValue), UInt32(bitPattern: link.index))
    if let priority = route.priority { request.put(Int(RTA_PRIORITY.rawValue), priority) }
    if let source = route.source { request.put(Int(RTA_PREFSRC.rawValue), source) }
    request.put(
      Int(RTA_TABLE.rawValue), route.table ?? UInt32(RT_TABLE_MAIN.rawValue))
    if route.mtu != nil || route.advertisedMSS != nil {
      request.nest(Int(RTA_METRICS.rawValue)) { request in
        if let mtu = route.mtu { request.put(Int(RTAX_MTU), mtu) }
        if let mss = route.advertisedMSS { request.put(Int(RTAX_ADVMSS), mss) }
      }
    }
    let destination = "\(route.maskedDestination)/\(route.prefixLength)"
    let way = route.gateway.map { " via \($0)" } ?? ""
    try transact(
      request,
      for: Purpose(action: "add the route to \(destination)\(way) on", subject: link.name) {
        errno in
        switch errno {
        case .fileExists: "there is such a route already"
        case .networkUnreachable, .noRouteToHost:
          "the gateway must be in the subnet of an address of a device that is up"
        default: nil
        }
      })
  }

  /// Removes a route by a device from the main table.
  ///
  /// - Throws: `ESRCH` where there is no such route.
  package mutating func remove(_ route: RouteEntry, from link: Link) throws(LinuxError) {
    var family = rtmsg()
    family.rtm_family = UInt8(truncatingIfNeeded: route.destination.family)
    family.rtm_dst_len = route.prefixLength
    family.rtm_table = UInt8(truncatingIfNeeded: RT_TABLE_MAIN.rawValue)
    family.rtm_scope = UInt8(truncatingIfNeeded: RT_SCOPE_NOWHERE.rawValue)
    var request = NetlinkRequest(type: Int(RTM_DELROUTE), flags: 0, family: family)
    if !route.isDefault { request.put(Int(RTA_DST.rawValue), route.maskedDestination) }
    request.put(Int(RTA_OIF.rawValue), UInt32(bitPattern: link.index))
    if let gateway = route.gateway { request.put(Int(RTA_GATEWAY.rawValue), gateway) }
    if let priority = route.priority { request.put(Int(RTA_PRIORITY.rawValue), priority) }
    try transact(
      request,
      for: Purpose(
        action: "remove the route to \(route.maskedDestination)/\(route.prefixLength) on",
        subject: link.name))
  }
}

extension RouteEntry {
  /// Decodes an entry of a table; `nil` for what is no unicast route.
  fileprivate init?(_ message: NetlinkMessage) {
    guard message.type == Int(RTM_NEWROUTE), let header = message.family(as: rtmsg.self),
      Int(header.rtm_type) == Int(RTN_UNICAST), header.rtm_flags & UInt32(RTM_F_CLONED) == 0
    else { return nil }
    let isIPv6 = Int32(header.rtm_family) == AF_INET6
    guard let everywhere = IPAddress(octets: [UInt8](repeating: 0, count: isIPv6 ? 16 : 4)) else {
      return nil
    }
    self.init(destination: everywhere, prefixLength: header.rtm_dst_len)
    table = UInt32(header.rtm_table)
    origin = RouteOrigin(rawValue: header.rtm_protocol)
    scope = header.rtm_scope
    message.forEachAttribute(after: MemoryLayout<rtmsg>.size) { type, value in
      switch UInt32(truncatingIfNeeded: type) {
      case RTA_DST.rawValue: destination = value.ipAddress ?? destination
      case RTA_GATEWAY.rawValue: gateway = value.ipAddress
      case RTA_VIA.rawValue: gateway = value.extracting(droppingFirst: 2).ipAddress
      case RTA_OIF.rawValue: linkIndex = value.int32
      case RTA_PRIORITY.rawValue: priority = value.uint32
      case RTA_PREFSRC.rawValue: source = value.ipAddress
      case RTA_TABLE.rawValue: table = value.uint32
      case RTA_METRICS.rawValue:
        value.forEachAttribute { metric, value in
          if metric == Int(RTAX_MTU) { mtu = value.uint32 }
          if metric == Int(RTAX_ADVMSS) { advertisedMSS = value.uint32 }
        }
      default: break
      }
    }
  }
}
