internal import OVXControl
private import OVXDatapath

/// Reads members of a configuration, and tells by name which one is wrong.
struct MemberReader {
  private let json: JSON
  /// What stands in front of a member's name in a sentence.
  private let prefix: String

  init(_ json: JSON, _ prefix: String = "") {
    self.json = json
    self.prefix = prefix
  }

  private func wrong(_ name: String, _ what: String) -> PluginError {
    PluginError(.invalidConfiguration, "\"\(prefix)\(name)\" of the network configuration \(what)")
  }

  // MARK: Kinds of members

  func text(_ name: String) throws(PluginError) -> String? {
    guard let member = json[name] else { return nil }
    guard let text = member.textValue else {
      throw wrong(name, "is \(member.kind), and has to be a text")
    }
    // Go writes an absent text as an empty one.
    return text.isEmpty ? nil : text
  }

  func texts(_ name: String) throws(PluginError) -> [String]? {
    guard let member = json[name] else { return nil }
    let texts = member.arrayValue?.compactMap(\.textValue)
    guard let texts, texts.count == member.arrayValue?.count else {
      throw wrong(name, "has to be an array of texts")
    }
    return texts
  }

  func object(_ name: String) throws(PluginError) -> JSON? {
    guard let member = json[name] else { return nil }
    guard case .object = member else {
      throw wrong(name, "is \(member.kind), and has to be an object")
    }
    return member
  }

  func integer(_ name: String, in range: ClosedRange<Int>) throws(PluginError) -> Int? {
    guard let member = json[name] else { return nil }
    guard let number = member.integerValue, range.contains(number) else {
      throw wrong(
        name,
        "has to be a number from \(range.lowerBound) to \(range.upperBound), not \(shown(member))")
    }
    return number
  }

  func path(_ name: String) throws(PluginError) -> String? {
    guard let path = try text(name) else { return nil }
    guard path.hasPrefix("/"), !path.utf8.contains(0) else {
      throw wrong(name, "has to be an absolute path, not \"\(path)\"")
    }
    return path
  }

  private func shown(_ value: JSON) -> String {
    switch value {
    case .integer(let number): String(number)
    case .text(let text): "\"\(text)\""
    default: value.kind
    }
  }

  /// What a container's interface is to be.
  func kind() throws(PluginError) -> String? {
    guard let kind = try text("kind") else { return nil }
    guard kind == "tap" || kind == "veth" else {
      throw wrong("kind", "is \"\(kind)\", and has to be \"tap\" or \"veth\"")
    }
    return kind
  }

  /// The ports of `portMappings`:
  /// `{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "203.0.113.1"}`.
  func published() throws(PluginError) -> [PublishedPort] {
    guard let member = json["portMappings"], member != .null else { return [] }
    guard let elements = member.arrayValue else {
      throw wrong("portMappings", "is \(member.kind), and has to be an array")
    }
    var published: [PublishedPort] = []
    for element in elements {
      let reader = MemberReader(element, prefix + "portMappings.")
      let ports = 1...Int(UInt16.max)
      guard case .object = element, let port = try reader.integer("hostPort", in: ports),
        let memberPort = try reader.integer("containerPort", in: ports)
      else {
        throw wrong("portMappings", "has an element without a \"hostPort\" and a \"containerPort\"")
      }
      let name = try reader.text("protocol")?.lowercased() ?? "tcp"
      guard let transport = PublishedPort.Transport(rawValue: name) else {
        throw reader.wrong("protocol", "is \"\(name)\", and has to be tcp, udp or sctp")
      }
      var address: IPAddress?
      if let text = try reader.text("hostIP") {
        guard let parsed = IPAddress(text) else {
          throw reader.wrong("hostIP", "is \"\(text)\", which is no address")
        }
        address = parsed
      }
      published.append(
        PublishedPort(
          address: address, port: UInt16(clamping: port), memberPort: UInt16(clamping: memberPort),
          transport: transport))
    }
    return published
  }

  // MARK: Where containers are attached

  func place() throws(PluginError) -> NetworkConfiguration.Place {
    let vni = try integer("vni", in: 0...Int(VNI.max))
    // VLAN 0 is that of frames without a tag.
    let tag = try integer("tag", in: 0...4095)
    let trunk = try trunk()
    let bridge = try text("bridge")
    if let network = try text("network") {
      let contradictions = [
        ("bridge", bridge != nil), ("vni", vni != nil), ("tag", tag != nil),
        ("trunk", trunk != nil),
      ].filter(\.1).map { "\"\($0.0)\"" }
      guard contradictions.isEmpty else {
        throw PluginError(
          .invalidConfiguration,
          "the network configuration has \"network\" and \(contradictions.joined(separator: ", ")), and a network "
            + "says by itself where it is; leave out one or the other")
      }
      return .network(network)
    }
    let said = [("vni", vni != nil), ("tag", tag != nil), ("trunk", trunk != nil)].filter(\.1)
      .map { "\"\($0.0)\"" }
    guard said.count <= 1 else {
      throw PluginError(
        .invalidConfiguration,
        "the network configuration has \(said.joined(separator: " and ")), which contradict each other; "
          + "leave one: \"tag\" names a VLAN, \"vni\" finds that of a tunnel, \"trunk\" names several"
      )
    }
    let membership: NetworkConfiguration.Membership =
      if let trunk {
        .trunk(trunk)
      } else if let tag, let vlan = VLANID(rawValue: UInt16(clamping: tag)) {
        .tag(vlan)
      } else if let vni, let vni = VNI(rawValue: UInt32(clamping: vni)) {
        .vni(vni)
      } else {
        .unsaid
      }
    return .bridge(bridge ?? "br0", membership)
  }

  /// VLANs as `10`, `"10"`, `"20-30"`, `{"id": 10}` or `{"minID": 20, "maxID": 30}`, the last two
  /// as ovs-cni has them.
  private func trunk() throws(PluginError) -> [ClosedRange<Int>]? {
    guard let member = json["trunk"] else { return nil }
    guard let elements = member.arrayValue, !elements.isEmpty else {
      throw wrong("trunk", "has to be a list of VLANs, such as [10, \"20-30\"]")
    }
    var ranges: [ClosedRange<Int>] = []
    for element in elements {
      guard let range = Self.range(element), range.lowerBound >= 0, range.upperBound <= 4095 else {
        throw wrong(
          "trunk", "has an element that is no VLAN from 0 to 4095 and no range such as \"20-30\"")
      }
      ranges.append(range)
    }
    return ranges
  }

  private static func range(_ element: JSON) -> ClosedRange<Int>? {
    func number(_ text: Substring) -> Int? {
      text.utf8.allSatisfy { UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 } ? Int(text) : nil
    }
    let ends: (Int, Int)?
    if let number = element.integerValue ?? element["id"]?.integerValue {
      ends = (number, number)
    } else if let text = element.textValue {
      let parts = text.split(separator: "-", omittingEmptySubsequences: false)
      let numbers = parts.compactMap(number)
      ends =
        (1...2).contains(parts.count) && numbers.count == parts.count
        ? numbers.first.flatMap { first in numbers.last.map { (first, $0) } } : nil
    } else {
      ends = element["minID"]?.integerValue.flatMap { low in
        element["maxID"]?.integerValue.map { (low, $0) }
      }
    }
    guard let ends, ends.0 <= ends.1 else { return nil }
    return ends.0...ends.1
  }

  // MARK: Others

  func addressPlugin() throws(PluginError) -> String? {
    guard let ipam = try object("ipam"), ipam != .object([:]) else { return nil }
    guard let type = ipam["type"]?.textValue, !type.isEmpty else {
      throw wrong(
        "ipam", "has no \"type\"; name the plugin, such as host-local, or leave out \"ipam\"")
    }
    // A name, and not a path to anywhere.
    guard !type.utf8.contains(UInt8(ascii: "/")), !type.utf8.contains(0), type != ".", type != ".."
    else {
      throw wrong("ipam", "has the type \"\(type)\", which is no name of a plugin in CNI_PATH")
    }
    return type
  }

  /// Refuses what other plugins know and who writes it relies on.
  ///
  /// - Throws: Code 2, naming the member, its value and what there is instead.
  func refuseForeignMembers() throws(PluginError) {
    let foreign: KeyValuePairs = [
      "vlan": "ovx-cni has \"tag\" for that",
      "vlanTrunk": "ovx-cni has \"trunk\" for that",
      "vxlanId": "ovx-cni has \"vni\" for that",
      "isGateway": "a gateway is the network's own, or one outside",
      "isDefaultGateway": "a gateway is the network's own, or one outside",
      "ipMasq": "the host does not translate addresses for ovx-cni",
      "macspoofchk": "ovx-cni has no such check",
      "promiscMode": "an interface of ovx gets what it asks for",
      "deviceID": "ovx has no interfaces of PCI devices",
      "socket_file": "ovx-cni has \"rundir\" for that",
    ]
    for (name, instead) in foreign {
      guard let member = json[name], member != .boolean(false), member != .text("") else {
        continue
      }
      let value = member.text
      throw PluginError(
        .unsupportedField,
        "\"\(name)\": \(value) of the network configuration is not supported; \(instead)")
    }
  }
}
