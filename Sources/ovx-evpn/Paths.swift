internal import GoBGP
internal import OVXControl
private import OVXDatapath
internal import OVXEVPN
internal import SwiftProtobuf

// GoBGP's words, and the agent's.

extension Apipb_Family {
  static let evpn: Apipb_Family = {
    var family = Apipb_Family()
    family.afi = .l2Vpn
    family.safi = .evpn
    return family
  }()
}

extension Agent.Identity {
  init?(_ global: Apipb_Global) {
    guard global.asn != 0, let routerID = IPAddress(global.routerID), !routerID.isIPv6 else {
      return nil
    }
    self.init(asn: global.asn, routerID: routerID)
  }
}

extension EVPNPeer {
  init(_ peer: Apipb_Peer) {
    let state =
      switch peer.state.sessionState {
      case .idle: "idle"
      case .connect: "connect"
      case .active: "active"
      case .opensent: "opensent"
      case .openconfirm: "openconfirm"
      case .established: "established"
      default: "unknown"
      }
    let address =
      peer.state.neighborAddress.isEmpty ? peer.conf.neighborAddress : peer.state.neighborAddress
    self.init(
      address: address, asn: peer.state.peerAsn == 0 ? peer.conf.peerAsn : peer.state.peerAsn,
      state: state)
  }
}

extension ReceivedPath {
  init(_ path: Apipb_Path) {
    self.init(
      Content(path.nlri), isWithdrawal: path.isWithdraw,
      isLocal: ["", "<nil>"].contains(path.neighborIp))
    for attribute in path.pattrs {
      if let found = attribute.unpacked(as: Apipb_MpReachNLRIAttribute.self) {
        nextHop = found.nextHops.first ?? ""
      } else if let found = attribute.unpacked(as: Apipb_NextHopAttribute.self), nextHop.isEmpty {
        nextHop = found.nextHop
      } else if let found = attribute.unpacked(as: Apipb_ExtendedCommunitiesAttribute.self) {
        communities += found.communities.prefix(1024).compactMap(Community.init)
      } else if let found = attribute.unpacked(as: Apipb_PmsiTunnelAttribute.self) {
        tunnel = Tunnel(type: found.type, label: found.label)
      }
    }
  }
}

extension ReceivedPath.Content {
  fileprivate init(_ nlri: Google_Protobuf_Any) {
    if let found = nlri.unpacked(as: Apipb_EVPNMACIPAdvertisementRoute.self) {
      // As Go prints an address that is not there.
      let ip = found.ipAddress == "<nil>" ? "" : found.ipAddress
      self = .station(
        .init(found.rd), tag: found.ethernetTag, mac: found.macAddress, ip: ip,
        labels: found.labels)
    } else if let found = nlri.unpacked(as: Apipb_EVPNInclusiveMulticastEthernetTagRoute.self) {
      self = .multicast(.init(found.rd), tag: found.ethernetTag, originator: found.ipAddress)
    } else {
      self = .other
    }
  }
}

extension ReceivedPath.Distinguisher {
  fileprivate init(_ any: Google_Protobuf_Any) {
    if let found = any.unpacked(as: Apipb_RouteDistinguisherIPAddress.self) {
      self = .address(found.admin, found.assigned)
    } else if let found = any.unpacked(as: Apipb_RouteDistinguisherTwoOctetASN.self) {
      self = .twoOctet(found.admin, found.assigned)
    } else if let found = any.unpacked(as: Apipb_RouteDistinguisherFourOctetASN.self) {
      self = .fourOctet(found.admin, found.assigned)
    } else {
      self = .unknown
    }
  }
}

extension ReceivedPath.Community {
  fileprivate init?(_ any: Google_Protobuf_Any) {
    if let found = any.unpacked(as: Apipb_TwoOctetAsSpecificExtended.self) {
      self = .twoOctet(subType: found.subType, found.asn, found.localAdmin)
    } else if let found = any.unpacked(as: Apipb_IPv4AddressSpecificExtended.self) {
      self = .address(subType: found.subType, found.address, found.localAdmin)
    } else if let found = any.unpacked(as: Apipb_FourOctetAsSpecificExtended.self) {
      self = .fourOctet(subType: found.subType, found.asn, found.localAdmin)
    } else if let found = any.unpacked(as: Apipb_EncapExtended.self) {
      self = .encapsulation(found.tunnelType)
    } else if let found = any.unpacked(as: Apipb_MacMobilityExtended.self) {
      self = .mobility(sequence: found.sequenceNum, isSticky: found.isSticky)
    } else if any.isA(Apipb_DefaultGatewayExtended.self) {
      self = .defaultGateway
    } else {
      return nil
    }
  }
}

extension Google_Protobuf_Any {
  /// The message in it; `nil` where it holds another one, or none that can be read.
  fileprivate func unpacked<Message: SwiftProtobuf.Message>(as type: Message.Type) -> Message? {
    isA(type) ? try? Message(unpackingAny: self) : nil
  }
}

extension Apipb_Path {
  /// What the engine is told of a route.
  init(_ announcement: RouteChange) throws {
    let route = announcement.route
    self.init()
    family = .evpn
    isWithdraw = announcement.isWithdrawal
    nlri = try Self.nlri(of: route)
    var origin = Apipb_OriginAttribute()
    origin.origin = 2
    var reach = Apipb_MpReachNLRIAttribute()
    reach.family = .evpn
    reach.nextHops = ["\(route.vtep)"]
    reach.nlris = [nlri]
    var extended = Apipb_ExtendedCommunitiesAttribute()
    extended.communities = try Self.communities(of: route)
    pattrs = [
      try Google_Protobuf_Any(message: origin), try Google_Protobuf_Any(message: reach),
      try Google_Protobuf_Any(message: extended),
    ]
    if case .multicast = route.key {
      var tunnel = Apipb_PmsiTunnelAttribute()
      tunnel.type = ReceivedPath.Tunnel.ingressReplication
      tunnel.label = route.vni.rawValue
      tunnel.id = .init(route.vtep.octets)
      pattrs.append(try Google_Protobuf_Any(message: tunnel))
    }
  }

  private static func nlri(of route: Route) throws -> Google_Protobuf_Any {
    let distinguisher = route.key.distinguisher.rawValue
    var rd = Apipb_RouteDistinguisherIPAddress()
    rd.admin = "\(IPAddress(v4: UInt32(truncatingIfNeeded: distinguisher >> 16)))"
    rd.assigned = UInt32(distinguisher & 0xFFFF)
    switch route.key {
    case .multicast(_, let originator):
      var nlri = Apipb_EVPNInclusiveMulticastEthernetTagRoute()
      nlri.rd = try Google_Protobuf_Any(message: rd)
      nlri.ipAddress = "\(originator)"
      return try Google_Protobuf_Any(message: nlri)
    case .station(_, let mac, let ip):
      var nlri = Apipb_EVPNMACIPAdvertisementRoute()
      nlri.rd = try Google_Protobuf_Any(message: rd)
      // The segment of a host that is connected once: 0 (RFC 7432, section 5).
      nlri.esi.value = .init(repeating: 0, count: 9)
      nlri.macAddress = "\(mac)"
      nlri.ipAddress = ip.map { "\($0)" } ?? ""
      nlri.labels = [route.vni.rawValue]
      return try Google_Protobuf_Any(message: nlri)
    }
  }

  private static func communities(of route: Route) throws -> [Google_Protobuf_Any] {
    var communities = try route.targets.map { try $0.community() }
    var encapsulation = Apipb_EncapExtended()
    encapsulation.tunnelType = ReceivedPath.vxlan
    communities.append(try Google_Protobuf_Any(message: encapsulation))
    if route.mobility != Mobility() {
      var mobility = Apipb_MacMobilityExtended()
      mobility.sequenceNum = route.mobility.sequence
      mobility.isSticky = route.mobility.isSticky
      communities.append(try Google_Protobuf_Any(message: mobility))
    }
    if route.isGateway {
      communities.append(try Google_Protobuf_Any(message: Apipb_DefaultGatewayExtended()))
    }
    return communities
  }
}

extension RouteTarget {
  fileprivate func community() throws -> Google_Protobuf_Any {
    let low = UInt32(truncatingIfNeeded: rawValue)
    let middle = UInt32(truncatingIfNeeded: rawValue >> 16)
    switch rawValue >> 56 {
    case 0:
      var community = Apipb_TwoOctetAsSpecificExtended()
      (community.isTransitive, community.subType) = (true, Self.subType)
      (community.asn, community.localAdmin) = (middle >> 16, low)
      return try Google_Protobuf_Any(message: community)
    case 1:
      var community = Apipb_IPv4AddressSpecificExtended()
      (community.isTransitive, community.subType) = (true, Self.subType)
      (community.address, community.localAdmin) = ("\(IPAddress(v4: middle))", low & 0xFFFF)
      return try Google_Protobuf_Any(message: community)
    default:
      var community = Apipb_FourOctetAsSpecificExtended()
      (community.isTransitive, community.subType) = (true, Self.subType)
      (community.asn, community.localAdmin) = (middle, low & 0xFFFF)
      return try Google_Protobuf_Any(message: community)
    }
  }
}
