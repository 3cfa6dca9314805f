internal import OVXControl

/// A configuration to work on, with something of everything in it, and a host that has some
/// devices.
enum Bench {
  static let configuration: Configuration = {
    var configuration = Configuration()
    let vlan = Setting(column: "tag", value: "100")
    var settings = [
      Setting(column: "tag", value: "7"), Setting(column: "ip", value: "10.0.0.5/24,fd00::5/64"),
      Setting(column: "gateway", value: "10.0.0.1"),
    ]
    do throws(ControlError) {
      let attachment = try Configuration.Attachment(
        target: "web1", interface: "eth0", takingFrom: &settings)
      _ = try Transaction.execute(
        [
          .addBridge(bridge: "br0", mayExist: false), .addBridge(bridge: "br1", mayExist: false),
          .addPort(bridge: "br0", port: "veth1", settings: [vlan], mayExist: false),
          .addPort(
            bridge: "br0", port: "tap1", settings: try texts("type=tap", "mtu=1400"),
            mayExist: false),
          .addPort(
            bridge: "br0", port: "vx0",
            settings: try texts("key=100", "remote=192.0.2.1,192.0.2.2", "tag=100"), mayExist: false
          ),
          .addPort(
            bridge: "br1", port: "vx1",
            settings: try texts("key=0x2A", "remote=fd05::3", "local=fd05::2", "trunks=1,2"),
            mayExist: false),
          .attach(bridge: "br0", attachment: attachment, settings: settings, mayExist: false),
          .addNetwork(
            network: "red",
            settings: try texts(
              "vni=300", "subnet=10.3.0.0/24,fd03::/64", "gateway=10.3.0.1", "remotes=192.0.2.9",
              "tag=300", "bridge=br0"), mayExist: false),
          .addPort(
            bridge: "br0", port: "veth2", settings: try texts("network=red"), mayExist: false),
          .reserveAddress(network: "red", subnet: nil, address: nil),
          .set(
            table: "Interface", record: "br0",
            settings: try texts("addresses=[172.17.42.1/24,fd00::1/64]", "external_ids:\"a b\"=c"),
            ifExists: false),
          .set(
            table: "Bridge", record: "br1",
            settings: try texts("other_config={mac-aging-time=60,note=\"\"}"), ifExists: false),
        ], on: &configuration, live: live)
    } catch {
      finding("\(error)")
    }
    return configuration
  }()

  private static func texts(_ texts: String...) throws(ControlError) -> [Setting] {
    var settings: [Setting] = []
    for text in texts { settings.append(try Setting(parsing: text)) }
    return settings
  }

  static var live: LiveState {
    LiveState(
      deviceExists: { ["veth1", "veth2"].contains($0) },
      interface: { name in
        guard name != "tap1" else { return nil }
        var state = InterfaceState()
        (state.ifindex, state.mtu, state.macInUse) = (7, 1450, "02:00:00:00:00:01")
        (state.isAdministrativelyUp, state.error) = (true, "It fails.")
        state.statistics = ["rx_packets": .max, "dropped": 0]
        return state
      })
  }

  /// A state that was accepted can be put in force, and written down such that it comes back.
  static func check(_ configuration: Configuration) {
    do throws(ControlError) {
      try configuration.validate()
      try checkPrintedValues(of: configuration)
    } catch {
      finding("It was accepted, but: \(error)")
    }
  }

  /// What `list` prints, `set` reads.
  private static func checkPrintedValues(of configuration: Configuration) throws(ControlError) {
    for table in ["Bridge", "Port", "Interface", "Network"] {
      var same = configuration
      let list = try Transaction.execute(
        [.list(table: table, records: [], columns: [], ifExists: false)], on: &same, live: live)
      guard case .records(let list)?? = list.replies.first else { finding("list lists nothing.") }
      for row in list.rows {
        guard let position = list.columns.firstIndex(of: "name"),
          case .scalar(.text(let name)?) = row[position]
        else { finding("A record has no name.") }
        let settings = zip(list.columns, row).map { Setting(column: $0, value: $1.description) }
        let writable = settings.filter { !readOnly.contains($0.column) }
        let sameAgain: Command = .set(
          table: table, record: name, settings: writable, ifExists: false)
        _ = try Transaction.execute([sameAgain], on: &same, live: live)
      }
      guard same == configuration else { finding("What is printed of \(table) reads otherwise.") }
    }
  }

  private static let readOnly: Set = [
    "name", "ports", "interfaces", "attachment", "mac_in_use", "mtu", "ifindex", "admin_state",
    "link_state", "error", "status", "statistics", "_uuid", "ofport", "link_speed",
    "duplex", "members", "reserved",
  ]
}

/// An error is a sentence of one line.
func check(_ error: ControlError) {
  let isClean = error.message.unicodeScalars.allSatisfy {
    $0.properties.generalCategory != .control
  }
  guard isClean, !error.message.isEmpty else { finding("No sentence: \(error)") }
}
