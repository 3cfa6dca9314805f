internal import OVXControl
private import OVXDatapath

/// A network, as the daemon knows it.
struct KnownNetwork: Equatable {
  /// Empty for a network of layer 2 only.
  var subnets: [IPPrefix]
  /// How many addresses this host can still hand out; `nil` where nobody knows.
  var freeAddresses: Int?
}

extension Daemon {
  /// Looks a network up.
  ///
  /// - Parameter name: Its name.
  /// - Returns: What there is to know.
  /// - Throws: Code 7 where there is none; a bridge of that name is none, as it keeps no tenants
  ///   apart by itself.
  func network(_ name: String) throws(PluginError) -> KnownNetwork {
    try Self.network(name, in: try send([Self.findNetwork(name)])[0].rows)
  }

  static func findNetwork(_ name: String) -> Command {
    let condition = Condition(
      column: "name", comparison: .equal, value: Atom.text(name).description)
    return .find(table: "Network", conditions: [condition], columns: ["subnet", "status"])
  }

  static func network(_ name: String, in list: RecordList) throws(PluginError) -> KnownNetwork {
    guard let row = list.rows.first else {
      throw PluginError(
        .invalidConfiguration,
        "there is no network \(name); make it with ovx-ctl add-net \(name) vni=VNI subnet=ADDRESS/LENGTH, "
          + "or name a \"bridge\" instead of a \"network\"")
    }
    return KnownNetwork(
      subnets: list.texts("subnet", row).compactMap { IPPrefix($0) },
      freeAddresses: list.entries("status", row)["addresses_free"].flatMap { Int($0) })
  }

  /// The settings by which a container's port gets into the VLANs that a network's configuration
  /// says.
  ///
  /// - Parameter place: Where containers of the network are attached.
  /// - Returns: Settings of `attach`.
  /// - Throws: Code 7 where the bridge has no tunnel of the VNI, or one that does not say which
  ///   VLAN.
  func settings(of place: NetworkConfiguration.Place) throws(PluginError) -> [Setting] {
    guard case .bridge(let bridge, let membership) = place else { return [] }
    switch membership {
    case .unsaid: return []
    case .tag(let vlan): return [Setting(column: "tag", value: vlan.description)]
    case .trunk(let ranges):
      let text = ranges.map { range in
        range.count == 1 ? String(range.lowerBound) : "\(range.lowerBound)-\(range.upperBound)"
      }
      return [Setting(column: "trunks", value: text.joined(separator: ","))]
    case .vni(let vni):
      return [Setting(column: "tag", value: try tag(of: vni, on: bridge).description)]
    }
  }

  /// The VLAN of the tunnels that receive a VNI.
  private func tag(of vni: VNI, on bridge: String) throws(PluginError) -> VLANID {
    let isTunnel = Condition(column: "type", comparison: .equal, value: "vxlan")
    let replies = try send([
      .listPorts(bridge: bridge),
      .find(table: "Interface", conditions: [isTunnel], columns: ["name", "options"]),
    ])
    let names = Set(replies[0].nameList)
    let list = replies[1].rows
    let tunnels = list.rows.filter { row in
      let tunnel = try? Configuration.Tunnel(options: list.entries("options", row))
      return tunnel?.vni == vni
    }.compactMap { list.text("name", $0) }
    guard let tunnel = tunnels.filter(names.contains).min() else {
      let elsewhere = tunnels.min().map { "; its tunnel \($0) is on another bridge" } ?? ""
      throw PluginError(
        .invalidConfiguration,
        "bridge \(bridge) has no tunnel of VNI \(vni)\(elsewhere); make one with "
          + "ovx-ctl add-port \(bridge) vxlan\(vni) tag=VLAN key=\(vni) remote=ADDRESS")
    }
    return try tag(ofTunnel: tunnel, vni)
  }

  private func tag(ofTunnel tunnel: String, _ vni: VNI) throws(PluginError) -> VLANID {
    let list = try send([
      .list(
        table: "Port", records: [tunnel], columns: ["tag", "trunks"], ifExists: false)
    ])[0].rows
    guard let row = list.rows.first else {
      throw PluginError(.tryLater, "tunnel \(tunnel) of VNI \(vni) has just been removed")
    }
    if let vlan = list.text("tag", row).flatMap({ UInt16($0) }).flatMap(VLANID.init(rawValue:)) {
      return vlan
    }
    // Without a tag the tunnel is a trunk: what has no tag in it is of VLAN 0.
    let trunks = list.texts("trunks", row)
    guard trunks.isEmpty || trunks.contains("0") else {
      throw PluginError(
        .invalidConfiguration,
        "tunnel \(tunnel) of VNI \(vni) carries VLANs \(trunks.joined(separator: ", ")), so the VNI does not say which; "
          + "name one with \"tag\" instead of \"vni\"")
    }
    return .untagged
  }
}
