internal import GRDB
internal import OVXControl
internal import OVXDatapath

/// A network as a row of the database.
struct NetworkRow: Codable, Equatable, FetchableRecord, PersistableRecord {
  static let databaseTableName = "network"

  var name: String
  var vni: UInt32
  var bridge: String
  var tag: UInt16
  var subnet: [IPPrefix]
  var range: [AddressRange]
  var remotes: [IPAddress]
  var gateway: [IPAddress]
  var gatewayMode: String
  var nat: String
  var floating: [String: String]
  var dhcp: Bool
  var dns: Bool
  var domain: String?
  var reserved: [IPAddress]
  var portSecurity: Bool
  var mtuRequest: Int?
  var otherConfig: [String: String]
  var externalIDs: [String: String]

  enum CodingKeys: String, CodingKey {
    case name, vni, bridge, tag, subnet, range, remotes, gateway, nat, floating, reserved, dhcp
    case dns, domain
    case gatewayMode = "gateway_mode"
    case portSecurity = "port_security"
    case mtuRequest = "mtu_request"
    case otherConfig = "other_config"
    case externalIDs = "external_ids"
  }

  init(_ network: Configuration.Network) {
    name = network.name
    vni = network.vni.rawValue
    bridge = network.bridge
    tag = network.tag.rawValue
    subnet = network.subnets
    range = network.ranges
    remotes = network.remotes
    gateway = network.gateways
    gatewayMode = network.gatewayMode.rawValue
    nat = network.nat.rawValue
    floating = network.floating
    dhcp = network.dhcp
    dns = network.dns
    domain = network.domain
    reserved = network.reserved
    portSecurity = network.portSecurity
    mtuRequest = network.mtuRequest
    otherConfig = network.otherConfig
    externalIDs = network.externalIDs
  }

  var network: Configuration.Network {
    get throws {
      guard let vni = VNI(rawValue: vni), let tag = VLANID(rawValue: tag) else {
        throw ControlError(
          "network \(name) has the VNI \(vni) and the VLAN \(tag), of which one cannot be")
      }
      var network = Configuration.Network(name: name, vni: vni, bridge: bridge, tag: tag)
      network.subnets = subnet
      network.ranges = range
      network.remotes = remotes
      network.gateways = gateway
      guard let mode = Configuration.GatewayMode(rawValue: gatewayMode),
        let translation = Configuration.AddressTranslation(rawValue: nat)
      else {
        throw ControlError(
          "network \(name) has the unknown gateway_mode \"\(gatewayMode)\" or nat \"\(nat)\"")
      }
      network.gatewayMode = mode
      network.nat = translation
      network.floating = floating
      network.dhcp = dhcp
      network.dns = dns
      network.domain = domain
      network.reserved = reserved
      network.portSecurity = portSecurity
      network.mtuRequest = mtuRequest
      network.otherConfig = otherConfig
      network.externalIDs = externalIDs
      return network
    }
  }
}
