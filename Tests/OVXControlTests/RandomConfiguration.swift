import OVXDatapath
import OVXSimulation

@testable import OVXControl

/// Valid configurations of every shape, with the texts that are hardest to write down.
enum RandomConfiguration {
  static func make(_ random: inout SeededRandom) -> Configuration {
    var configuration = Configuration()
    for number in 0..<Int.random(in: 0...3, using: &random) {
      // Some names come in most configurations, so that two of them have something in common.
      let name =
        number == 0
        ? "br0" : ["br\(number)", "yes", "0\(number)"].randomElement(using: &random) ?? "b"
      var bridge = Configuration.Bridge(name: name)
      bridge.otherConfig = texts(&random)
      if Bool.random(using: &random) { bridge.otherConfig["mac-aging-time"] = "0\(number)60" }
      bridge.externalIDs = texts(&random)
      configuration.bridges[name] = bridge
      var own = Configuration.Port(
        name: name, bridge: name, interface: Configuration.Interface(type: .internal))
      decorate(&own, &random)
      configuration.ports[name] = own
      for index in 0..<Int.random(in: 0...5, using: &random) {
        let port = port("p\(number)-\(index)", of: name, vni: number * 10 + index, &random)
        configuration.ports[port.name] = port
      }
    }
    addNetworks(&configuration, &random)
    // What the host has on a device is reached in the VLAN of the bridge's own port.
    for (name, port) in configuration.ports where port.interface.type == .system {
      guard !port.vlans.carries(configuration.ports[port.bridge]?.tag ?? .untagged) else {
        continue
      }
      configuration.ports[name]?.interface.addresses = []
      configuration.ports[name]?.interface.routes = []
    }
    return configuration
  }

  /// Adds networks to the bridges there are, with what follows from them, and members.
  private static func addNetworks(
    _ configuration: inout Configuration, _ random: inout SeededRandom
  ) {
    if Bool.random(using: &random) {
      configuration.host.localIP = IPAddress("192.0.2.1")
      configuration.host.remotes = ["192.0.2.1", "192.0.2.2"].compactMap(IPAddress.init)
      configuration.host.otherConfig = texts(&random)
    }
    var published = 8000
    for (number, bridge) in configuration.bridges.keys.sorted().enumerated()
    where Bool.random(using: &random) {
      let number = UInt16(number)
      guard let vni = VNI(rawValue: 5000 + UInt32(number)),
        let tag = VLANID(rawValue: 4001 + number)
      else { continue }
      var network = Configuration.Network(
        name: number == 0 ? "red" : "no\(number)", vni: vni, bridge: bridge, tag: tag)
      if Bool.random(using: &random) {
        network.subnets = ["10.\(number).0.0/16", "fd00:\(number)::/64"].compactMap(IPPrefix.init)
        network.gateways = ["10.\(number).0.1"].compactMap(IPAddress.init)
        let modes = Configuration.GatewayMode.allCases
        network.gatewayMode = modes.randomElement(using: &random) ?? .central
        if network.gatewayMode != .remote, Bool.random(using: &random) { network.nat = .masquerade }
        if network.gatewayMode != .remote {
          network.dhcp = Bool.random(using: &random)
          network.dns = Bool.random(using: &random)
        }
        network.ranges = ["10.\(number).0.8-10.\(number).0.99"].compactMap(AddressRange.init)
      }
      if Bool.random(using: &random) { network.domain = "no\(number).example" }
      if Bool.random(using: &random) { network.remotes = ["192.0.2.9"].compactMap(IPAddress.init) }
      if Bool.random(using: &random) { network.mtuRequest = 1280 }
      network.portSecurity = Bool.random(using: &random)
      network.externalIDs = texts(&random)
      configuration.networks[network.name] = network
      for (name, port) in configuration.ports
      where port.bridge == bridge && name != bridge && port.interface.type != .vxlan
        && name.utf8.count.isMultiple(of: 2)
      {
        configuration.ports[name]?.network = network.name
        configuration.ports[name]?.tag = tag
        configuration.ports[name]?.trunks = []
        configuration.ports[name]?.customerVLANs = []
        configuration.ports[name]?.vlanMode = nil
        guard network.hasGatewayHere, port.interface.attachment == nil,
          port.interface.addresses.isEmpty, Bool.random(using: &random)
        else { continue }
        configuration.ports[name]?.allowedAddresses = ["10.\(number).0.7"].compactMap(
          AllowedAddress.init)
        configuration.ports[name]?.published = [
          "0.0.0.0:\(published):80/tcp", "\(published):80/udp",
        ]
        .compactMap(PublishedPort.init)
        published += 1
      }
    }
    try? configuration.completeNetworks(after: configuration)
  }

  private static func port(
    _ name: String, of bridge: String, vni: Int, _ random: inout SeededRandom
  ) -> Configuration.Port {
    var port = Configuration.Port(name: name, bridge: bridge)
    switch Int.random(in: 0..<5, using: &random) {
    case 0:
      port.interface.type = .system
    case 1:
      port.interface.type = .internal
    case 2:
      port.interface.type = .tap
    case 3:
      port.interface.type = .tap
      port.name = "eth0@c\(vni)"
      port.interface.attachment = Configuration.Attachment(target: "c\(vni)", interface: "eth0")
    default:
      port.interface.type = .vxlan
      port.interface.options["key"] =
        [String(vni), "0x0\(String(vni, radix: 16))"].randomElement(using: &random)
      let remotes = ["10.0.0.\(vni + 1)", "10.1.0.1,10.1.0.2", "10.2.0.1, 10.2.0.2 ", "fd00::9"]
      port.interface.options["remote_ip"] = remotes.randomElement(using: &random)
      if Bool.random(using: &random) { port.interface.options["dst_port"] = "08472" }
      // Each VNI has a VLAN of its own, and a bridge of its own.
      port.tag = VLANID(rawValue: UInt16(vni + 1))
      port.externalIDs = texts(&random)
      return port
    }
    decorate(&port, &random)
    return port
  }

  private static func decorate(_ port: inout Configuration.Port, _ random: inout SeededRandom) {
    let vlan = VLANID(rawValue: UInt16.random(in: 0...4095, using: &random))
    let vlans = Set(
      (0..<Int.random(in: 0...3, using: &random)).compactMap { VLANID(rawValue: UInt16($0 * 77)) })
    switch Int.random(in: 0..<5, using: &random) {
    case 0: port.tag = vlan
    case 1: port.trunks = vlans
    case 2: (port.vlanMode, port.tag, port.trunks) = (.nativeUntagged, vlan, vlans)
    case 3: (port.vlanMode, port.tag, port.customerVLANs) = (.dot1qTunnel, vlan, vlans)
    default: break
    }
    port.portSecurity = [nil, true, false].randomElement(using: &random) ?? nil
    port.allowedAddresses = ["02:00:00:00:00:05", "10.9.8.7", "10.9.9.0/24", "fd00:7::/64"]
      .filter { _ in Bool.random(using: &random) }.compactMap(AllowedAddress.init)
      .sorted { "\($0)" < "\($1)" }
    port.otherConfig = texts(&random)
    port.externalIDs = texts(&random)
    port.interface.otherConfig = texts(&random)
    port.interface.externalIDs = texts(&random)
    let type = port.interface.type
    if type == .internal || type == .tap, Bool.random(using: &random) {
      port.interface.mac = MACAddress("52:54:00:12:34:56")
      port.interface.mtuRequest = Int.random(in: 68...9000, using: &random)
    }
    if type == .internal || type == .system, Bool.random(using: &random) {
      port.interface.addresses = ["10.9.8.7/24", "::2/0", "fd00::1/64"].compactMap(
        InterfaceAddress.init
      )
      .shuffled(using: &random).prefix(2).sorted { "\($0)" < "\($1)" }
      port.interface.routes = [
        "default via 10.9.8.1", "10.0.0.0/8 via 10.9.8.2 metric 7 src 10.9.8.7",
        "default via fd00::9", "fd01::/48",
      ]
      .compactMap(HostRoute.init).shuffled(using: &random).prefix(2).sorted { "\($0)" < "\($1)" }
    }
  }

  private static let pieces = [
    "a", "yes", "No", "~", "null", "", " ", "0", "007", "0x1F", "1e3", "12:30:45", ":", ": ", "#",
    " #",
    "-", "- ", "?", "&a", "*a", "!", "|", ">", "'", "\"", "%", "@", "`", "{", "}", "[", "]", ",",
    "=",
    "\\", "\n", "\r", "\t", "\u{0}", "\u{7F}", "\u{85}", "\u{A0}", "\u{301}", "é", "\u{2028}",
    "\u{FEFF}",
    "\u{FFFD}", "\u{FFFF}", "😀", "<<", "true", "172.17.42.1/24", "...", "---", "\u{1B}[2J",
  ]

  private static func texts(_ random: inout SeededRandom) -> [String: String] {
    var texts: [String: String] = [:]
    for _ in 0..<max(0, Int.random(in: -3...3, using: &random)) {
      texts[text(&random)] = text(&random)
    }
    // Names that mean something are left alone.
    return texts.filter { !$0.key.hasPrefix("mac-") }
  }

  private static func text(_ random: inout SeededRandom) -> String {
    let count = Bool.random(using: &random) ? 1 : Int.random(in: 0...60, using: &random)
    let text = (0..<count).map { _ in pieces.randomElement(using: &random) ?? "" }.joined()
    // Foundation takes a byte order mark away where it comes first, from a value as well.
    return String(String.UnicodeScalarView(text.unicodeScalars.drop { $0 == "\u{FEFF}" }))
  }
}
