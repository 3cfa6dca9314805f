internal import OVXControl
internal import OVXDatapath

/// A path as an engine hands it over: nothing in it has been checked, and all of it may be
/// somebody's malice.
package struct ReceivedPath: Sendable {
  package enum Content: Sendable {
    case station(Distinguisher, tag: UInt32, mac: String, ip: String, labels: [UInt32])
    case multicast(Distinguisher, tag: UInt32, originator: String)
    /// A route of another type, which is not for ovx.
    case other
  }

  package enum Distinguisher: Sendable {
    case twoOctet(UInt32, UInt32)
    case address(String, UInt32)
    case fourOctet(UInt32, UInt32)
    case unknown
  }

  package enum Community: Sendable {
    case twoOctet(subType: UInt32, UInt32, UInt32)
    case address(subType: UInt32, String, UInt32)
    case fourOctet(subType: UInt32, UInt32, UInt32)
    case encapsulation(UInt32)
    case mobility(sequence: UInt32, isSticky: Bool)
    case defaultGateway
  }

  /// The tunnel for broadcasts (RFC 6514, section 5).
  package struct Tunnel: Sendable {
    package var type: UInt32
    package var label: UInt32

    package init(type: UInt32, label: UInt32) {
      self.type = type
      self.label = label
    }

    /// Each VTEP is sent a copy of its own.
    package static let ingressReplication: UInt32 = 6
  }

  package var content: Content
  package var nextHop: String
  package var communities: [Community]
  package var tunnel: Tunnel?
  package var isWithdrawal: Bool
  /// Whether it was put in by a program of this host, and came from no peer.
  package var isLocal: Bool

  package init(
    _ content: Content, nextHop: String = "", communities: [Community] = [], tunnel: Tunnel? = nil,
    isWithdrawal: Bool = false, isLocal: Bool = false
  ) {
    self.content = content
    self.nextHop = nextHop
    self.communities = communities
    self.tunnel = tunnel
    self.isWithdrawal = isWithdrawal
    self.isLocal = isLocal
  }

  /// Communities that are looked at; a BGP message of 4096 octets has not more than 512.
  static let communityLimit = 512
}

/// Why a path is of no use.
package enum RouteFault: String, Error, CaseIterable, Sendable {
  case otherType = "another route type than 2 and 3"
  case distinguisher = "no route distinguisher that can be read"
  case ethernetTag = "an Ethernet tag other than 0"
  case mac = "no station's Ethernet address"
  case ip = "no station's IP address"
  case nextHop = "no VTEP's address as next hop"
  /// Somebody else has the address, or this host hears itself.
  case ownVTEP = "this host's own address as next hop"
  case label = "no VNI from 1 to 16777215"
  case tunnel = "no tunnel by ingress replication"
  case encapsulation = "another encapsulation than VXLAN"
  case communities = "more extended communities than a message holds"
  case otherVNI = "the route target of a network, and another VNI"
  case tooMany = "beyond the limit of routes of its network"
}

extension ReceivedPath {
  /// What the path is told apart by; a withdrawal says nothing else.
  package func key() throws(RouteFault) -> RouteKey {
    switch content {
    case .other: throw .otherType
    case .station(let distinguisher, let tag, let mac, let ip, _):
      let distinguisher = try distinguisher.checked()
      guard tag == 0 else { throw .ethernetTag }
      guard let mac = MACAddress(mac), !mac.isGroup, mac.rawValue != 0 else { throw .mac }
      guard !ip.isEmpty else { return .station(distinguisher, mac, nil) }
      guard let ip = IPAddress(ip) else { throw .ip }
      // An engine may write the absence of an address as 0.0.0.0 or ::.
      guard !ip.isUnspecified else { return .station(distinguisher, mac, nil) }
      guard !ip.isMulticast, !ip.isLimitedBroadcast else { throw .ip }
      return .station(distinguisher, mac, ip)
    case .multicast(let distinguisher, let tag, let originator):
      let distinguisher = try distinguisher.checked()
      guard tag == 0 else { throw .ethernetTag }
      guard let originator = IPAddress(originator) else { throw .ip }
      return .multicast(distinguisher, originator)
    }
  }

  /// The route that it is.
  package func route() throws(RouteFault) -> Route {
    let key = try key()
    guard communities.count <= Self.communityLimit else { throw .communities }
    guard let vtep = IPAddress(nextHop), vtep.isUnicast, !vtep.isLinkLocalIPv6, !vtep.isLoopback
    else {
      throw .nextHop
    }
    let label: UInt32?
    switch content {
    case .station(_, _, _, _, let labels): label = labels.first
    case .multicast:
      guard let tunnel, tunnel.type == Tunnel.ingressReplication else { throw .tunnel }
      label = tunnel.label
    case .other: throw .otherType
    }
    guard let label, let vni = VNI(rawValue: label), vni != .zero else { throw .label }
    var route = Route(key, vtep: vtep, vni: vni, targets: [])
    // Without a word of it the encapsulation is what the operator has set (RFC 8365, section
    // 5.1.3): VXLAN.
    var (isVXLAN, isOther) = (false, false)
    for community in communities {
      switch community {
      case .encapsulation(let type):
        if type == Self.vxlan { isVXLAN = true } else { isOther = true }
      case .mobility(let sequence, let isSticky):
        route.mobility = Mobility(sequence: sequence, isSticky: isSticky)
      case .defaultGateway: route.isGateway = true
      case .twoOctet(RouteTarget.subType, let asn, let number):
        guard asn <= 0xFFFF, let target = RouteTarget(asn: asn, number: number) else {
          continue
        }
        route.targets.append(target)
      case .fourOctet(RouteTarget.subType, let asn, let number):
        guard number <= 0xFFFF else { continue }
        route.targets.append(
          RouteTarget(rawValue: 0x0202 << 48 | UInt64(asn) << 16 | UInt64(number)))
      case .address(RouteTarget.subType, let address, let number):
        guard let address = IPAddress(address), !address.isIPv6,
          let number = UInt16(exactly: number)
        else { continue }
        route.targets.append(
          RouteTarget(address: UInt32(truncatingIfNeeded: address.low), number: number))
      case .twoOctet, .fourOctet, .address: continue
      }
    }
    guard isVXLAN || !isOther else { throw .encapsulation }
    return route
  }

  /// The tunnel type of VXLAN (RFC 8365, section 11).
  package static let vxlan: UInt32 = 8
}

extension IPAddress {
  /// Whether it never leaves a host: of 127.0.0.0/8, or ::1.
  fileprivate var isLoopback: Bool { isIPv6 ? high == 0 && low == 1 : low >> 24 == 127 }
}

extension ReceivedPath {
  /// What it says, for whoever looks for where it comes from.
  var summary: String {
    let hop = nextHop.isEmpty ? "nobody" : nextHop
    return switch content {
    case .station(let distinguisher, _, let mac, let ip, _):
      "\(mac)\(ip.isEmpty ? "" : " (\(ip))"), route distinguisher \(distinguisher.summary), of \(hop),"
    case .multicast(let distinguisher, _, let originator):
      "that for broadcasts to \(originator), route distinguisher \(distinguisher.summary), of \(hop),"
    case .other: "one of another type, of \(hop),"
    }
  }
}

extension ReceivedPath.Distinguisher {
  fileprivate var summary: String {
    switch self {
    case .twoOctet(let admin, let number), .fourOctet(let admin, let number): "\(admin):\(number)"
    case .address(let admin, let number): "\(admin):\(number)"
    case .unknown: "unknown"
    }
  }

  fileprivate func checked() throws(RouteFault) -> RouteDistinguisher {
    let found: RouteDistinguisher? =
      switch self {
      case .twoOctet(let asn, let number): RouteDistinguisher(twoOctetASN: asn, number: number)
      case .fourOctet(let asn, let number): RouteDistinguisher(fourOctetASN: asn, number: number)
      case .address(let text, let number):
        if let address = IPAddress(text), !address.isIPv6, let number = UInt16(exactly: number) {
          RouteDistinguisher(address: UInt32(truncatingIfNeeded: address.low), number: number)
        } else {
          nil
        }
      case .unknown: nil
      }
    guard let found else { throw .distinguisher }
    return found
  }
}
