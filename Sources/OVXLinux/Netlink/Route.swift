private import CLinux
package import OVXDatapath
private import SystemPackage

/// How the kernel would send to a destination now.
package struct Route: Equatable, Sendable {
  /// The index of the device it leaves by.
  package var linkIndex: Int32
  /// The next hop; `nil` where the destination is on the device's own subnet.
  package var gateway: IPAddress?
  /// The source address the kernel would choose.
  package var source: IPAddress?
  /// The MTU of the route in bytes, where it has one of its own, be it configured or discovered on
  /// the path.
  ///
  /// Without one it is the device's.
  package var mtu: Int?
  /// Whether `mtu` is what an ICMP message has said of the path, rather than somebody's
  /// configuration.
  package var isMTULearned = false
  /// Whether the destination is an address of this host.
  package var isLocal: Bool
  /// Whether the destination is the broadcast address of a network that the host is in.
  package var isBroadcast = false
}

extension Netlink {
  /// Asks how a destination is reached.
  ///
  /// - Parameters:
  ///   - destination: A unicast address.
  ///   - source: The address to send from, where that is decided already.
  /// - Returns: What the kernel would do with a packet now.
  /// - Throws: `ENETUNREACH` without a route, `EHOSTUNREACH`, `EACCES` or `EINVAL` where a route
  ///   forbids to send.
  package mutating func route(
    to destination: IPAddress,
    from source: IPAddress? = nil
  ) throws(LinuxError) -> Route {
    try route(to: destination, from: source, flags: 0)
  }

  /// The MTU that is configured for the route to a destination, whatever ICMP messages have said of
  /// the path.
  ///
  /// `nil` where the route has none of its own. Throws as `route(to:from:)` does.
  package mutating func configuredMTU(
    to destination: IPAddress,
    from source: IPAddress? = nil
  ) throws(LinuxError) -> Int? {
    try route(to: destination, from: source, flags: RTM_F_FIB_MATCH).mtu
  }

  private mutating func route(
    to destination: IPAddress, from source: IPAddress?, flags: Int32
  ) throws(LinuxError) -> Route {
    let request = Self.routeRequest(to: destination, from: source, flags: flags)

    let purpose = Purpose(action: "find a route to", subject: destination.description) { errno in
      switch errno {
      case .networkUnreachable:
        let condition = source.map { "; the source \($0) must be an address of this host" }
        return "add one with `ip route add`" + (condition ?? "")
      case .invalidArgument:
        let condition = source.map { "the source \($0) must be an address of this host; else " }
        return (condition ?? "") + "a blackhole route covers it; see `ip route` and `ip rule`"
      case .noRouteToHost: return "an unreachable route covers it; see `ip route` and `ip rule`"
      case .permissionDenied: return "a prohibit route covers it; see `ip route` and `ip rule`"
      default: return nil
      }
    }
    var route: Route?
    try transact(request, for: purpose) { message in
      if let answer = Route(message) { route = answer }
    }
    guard let route else { throw purpose.error(.networkUnreachable) }
    return route
  }

  /// The devices that lead to a destination: several where its route has several next hops.
  ///
  /// - Parameters:
  ///   - destination: A unicast address.
  ///   - source: The address to send from, where that is decided already.
  ///   - route: What the kernel would do with a packet now.
  /// - Returns: Their indices, in order.
  package mutating func devices(
    to destination: IPAddress, from source: IPAddress?, by route: Route
  ) -> [UInt32] {
    var devices: Set<Int32> = [route.linkIndex]
    // What a host sends to itself comes in by its loopback device, whatever device has the address.
    if !route.isLocal {
      let request = Self.routeRequest(to: destination, from: source, flags: RTM_F_FIB_MATCH)
      let purpose = Purpose(action: "find the routes to", subject: destination.description)
      try? transact(request, for: purpose) { message in
        guard message.type == Int(RTM_NEWROUTE) else { return }
        message.forEachAttribute(after: MemoryLayout<rtmsg>.size) { type, value in
          if type == Int(RTA_OIF.rawValue), let index = value.int32 { devices.insert(index) }
          if type == Int(RTA_MULTIPATH.rawValue) { devices.formUnion(value.nextHopDevices) }
        }
      }
    }
    return devices.map { UInt32(bitPattern: $0) }.sorted()
  }

  private static func routeRequest(
    to destination: IPAddress, from source: IPAddress?, flags: Int32 = 0
  ) -> NetlinkRequest {
    let bits: UInt8 = destination.isIPv6 ? 128 : 32
    var family = rtmsg()
    family.rtm_family = UInt8(truncatingIfNeeded: destination.family)
    family.rtm_dst_len = bits
    if source != nil { family.rtm_src_len = bits }
    family.rtm_flags = UInt32(bitPattern: flags)
    var request = NetlinkRequest(type: Int(RTM_GETROUTE), flags: 0, family: family)
    request.put(Int(RTA_DST.rawValue), destination)
    if let source { request.put(Int(RTA_SRC.rawValue), source) }
    return request
  }

  /// Makes a gateway the default route of its address family.
  ///
  /// - Parameters:
  ///   - gateway: A neighbor's address.
  ///   - link: The device it is reached by; `nil` leaves that to the kernel.
  ///   - metric: Of several default routes the one with the lowest counts; `nil` for the kernel's
  ///     own.
  /// - Throws: `EEXIST` where there is a default route with that metric, `ENETUNREACH` or
  ///   `EHOSTUNREACH` where the gateway is in no subnet of the device.
  package mutating func addDefaultRoute(
    via gateway: IPAddress,
    on link: Link? = nil,
    metric: UInt32? = nil
  ) throws(LinuxError) {
    var family = rtmsg()
    family.rtm_family = UInt8(truncatingIfNeeded: gateway.family)
    family.rtm_table = UInt8(truncatingIfNeeded: RT_TABLE_MAIN.rawValue)
    family.rtm_protocol = UInt8(truncatingIfNeeded: RTPROT_STATIC)
    family.rtm_scope = UInt8(truncatingIfNeeded: RT_SCOPE_UNIVERSE.rawValue)
    family.rtm_type = UInt8(truncatingIfNeeded: RTN_UNICAST)
    var request = NetlinkRequest(
      type: Int(RTM_NEWROUTE),
      flags: NLM_F_CREATE | NLM_F_EXCL,
      family: family
    )
    request.put(Int(RTA_GATEWAY.rawValue), gateway)
    if let link { request.put(Int(RTA_OIF.rawValue), UInt32(bitPattern: link.index)) }
    if let metric { request.put(Int(RTA_PRIORITY.rawValue), metric) }

    let place = link.map { " on \($0.name)" } ?? ""
    try transact(
      request,
      for: Purpose(action: "route by default via", subject: gateway.description + place) { errno in
        switch errno {
        case .fileExists: "there is a default route already; remove it with `ip route del default`"
        case .networkUnreachable, .noRouteToHost:
          "the gateway must be in the subnet of an address of a device that is up"
        default: nil
        }
      }
    )
  }
}

extension RawSpan {
  /// The devices of several next hops: `struct rtnexthop` of <linux/rtnetlink.h>, each with
  /// attributes of its own.
  fileprivate var nextHopDevices: [Int32] {
    var devices: [Int32] = []
    var offset = 0
    while let hop = loadTrivial(as: rtnexthop.self, at: offset) {
      devices.append(hop.rtnh_ifindex)
      guard Int(hop.rtnh_len) >= MemoryLayout<rtnexthop>.size else { break }
      offset &+= (Int(hop.rtnh_len) &+ 3) & ~3
    }
    return devices
  }
}

extension Route {
  /// Decodes an answer; `nil` for a message of another kind or without a device.
  fileprivate init?(_ message: NetlinkMessage) {
    guard message.type == Int(RTM_NEWROUTE), let header = message.family(as: rtmsg.self)
    else { return nil }
    var index: Int32?
    var gateway: IPAddress?
    var source: IPAddress?
    var mtu: UInt32?
    var expires = false
    message.forEachAttribute(after: MemoryLayout<rtmsg>.size) { type, value in
      switch UInt32(truncatingIfNeeded: type) {
      case RTA_OIF.rawValue: index = value.int32
      case RTA_GATEWAY.rawValue: gateway = value.ipAddress
      case RTA_VIA.rawValue: gateway = value.extracting(droppingFirst: 2).ipAddress
      case RTA_PREFSRC.rawValue: source = value.ipAddress
      case RTA_METRICS.rawValue:
        value.forEachAttribute { metric, value in
          if metric == Int(RTAX_MTU) { mtu = value.uint32 }
        }
      case RTA_CACHEINFO.rawValue:
        // `struct rta_cacheinfo`: `rta_expires` is the third word.
        if value.byteCount >= 12 { expires = value.extracting(8..<12).uint32 != 0 }
      default: break
      }
    }
    guard let index else { return nil }
    linkIndex = index
    // What was learned is in an exception to a route, which expires. So do routes from router
    // advertisements.
    isMTULearned = mtu != nil && expires && header.rtm_flags & UInt32(RTM_F_CLONED) != 0
    self.gateway = gateway
    self.source = source
    self.mtu = mtu.flatMap { $0 == 0 ? nil : Int($0) }
    isLocal = Int(header.rtm_type) == Int(RTN_LOCAL)
    isBroadcast = Int(header.rtm_type) == Int(RTN_BROADCAST)
  }
}
