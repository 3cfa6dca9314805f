internal import OVXControl
internal import OVXDatapath

/// A port that `ADD` has made, as the daemon knows it.
///
/// By the port's `external_ids` it is found again, whatever has become of the container's
/// namespace.
struct AttachedPort: Equatable {
  var name: String
  var container: String
  var interface: String
  /// Whether the `ADD` that made it has not come to its end.
  var isPending: Bool

  /// The keys of `external_ids`.
  enum Mark {
    static let network = "cni-network"
    static let container = "cni-container"
    static let interface = "cni-ifname"
    /// There while `ADD` is under way.
    static let pending = "cni-pending"
  }
}

/// What there is to say of a port that is in service.
struct PortState {
  var mac: MACAddress?
  var mtu: Int?
  var addresses: [InterfaceAddress]
  var gateways: [IPAddress]
  /// Why it is not in service.
  var error: String?
}

extension Daemon {
  /// Finds ports of a network.
  ///
  /// - Parameters:
  ///   - network: `name` of the network's configuration.
  ///   - container: The container's id; `nil` for all.
  ///   - interface: The interface's name; `nil` for all.
  /// - Returns: They, in order of their names.
  /// - Throws: As `send`.
  func ports(
    of network: String, container: String? = nil, interface: String? = nil
  ) throws(PluginError) -> [AttachedPort] {
    let find = Self.findPorts(of: network, container: container, interface: interface)
    return Self.ports(in: try send([find])[0].rows)
  }

  static func findPorts(of network: String, container: String?, interface: String?) -> Command {
    let marks = [
      (AttachedPort.Mark.network, network), (AttachedPort.Mark.container, container),
      (AttachedPort.Mark.interface, interface),
    ]
    let conditions = marks.compactMap { key, value in
      value.map {
        Condition(
          column: "external_ids", key: key, comparison: .equal, value: Atom.text($0).description)
      }
    }
    return .find(table: "Port", conditions: conditions, columns: ["name", "external_ids"])
  }

  static func ports(in list: RecordList) -> [AttachedPort] {
    list.rows.compactMap { row in
      let marks = list.entries("external_ids", row)
      guard let name = list.text("name", row), let container = marks[AttachedPort.Mark.container],
        let interface = marks[AttachedPort.Mark.interface]
      else { return nil }
      return AttachedPort(
        name: name, container: container, interface: interface,
        isPending: marks[AttachedPort.Mark.pending] != nil)
    }
  }

  /// What `attach` is to make.
  struct Order {
    var place: NetworkConfiguration.Place
    var settings: [Setting]
    var addresses: [InterfaceAddress]
    var gateways: [IPAddress]
  }

  /// Attaches a container.
  ///
  /// - Parameters:
  ///   - call: Which container, and which interface.
  ///   - network: `name` of the network's configuration.
  ///   - order: What to make.
  ///   - isStep: Whether `ADD` is not done with the port then, and is to mark it so.
  /// - Returns: The port's name.
  /// - Throws: What the daemon refuses; nothing has changed then, unless it did not answer (code
  ///   11).
  func attach(
    _ call: Call, to network: String, _ order: Order, isStep: Bool
  ) throws(PluginError) -> String {
    var marks = [
      (AttachedPort.Mark.network, network), (AttachedPort.Mark.container, call.containerID),
      (AttachedPort.Mark.interface, call.interface),
    ]
    if isStep { marks.append((AttachedPort.Mark.pending, "ADD")) }
    let bridge =
      switch order.place {
      case .network(let name), .bridge(let name, _): name
      }
    let attach = Command.attach(
      bridge: bridge,
      attachment: Configuration.Attachment(
        target: call.namespace, interface: call.interface, addresses: order.addresses,
        gateways: order.gateways),
      settings: order.settings
        + marks.map {
          Setting(column: "external_ids", key: $0.0, value: Atom.text($0.1).description)
        },
      mayExist: false)
    let place = [("target", call.namespace), ("interface", call.interface)].map { key, value in
      Condition(
        column: "attachment", key: key, comparison: .equal, value: Atom.text(value).description)
    }
    // The second sees what the first has done: the port's name is the daemon's choice.
    let list = try send([
      attach, .find(table: "Interface", conditions: place, columns: ["name"]),
    ])[1].rows
    guard let row = list.rows.first, let name = list.text("name", row) else {
      throw PluginError(
        .inputOutput, "the daemon has attached \(call.interface) and does not know its port")
    }
    return name
  }

  /// What a port is like; with `finishing`, the `ADD` that made it is done.
  ///
  /// - Parameters:
  ///   - port: Its name.
  ///   - finishing: Whether to take away the mark of an `ADD` that is under way.
  /// - Returns: Its state.
  /// - Throws: As `send`.
  func state(of port: String, finishing: Bool = false) throws(PluginError) -> PortState {
    let finish = Command.remove(
      table: "Port", record: port, column: "external_ids", values: [AttachedPort.Mark.pending],
      ifExists: false)
    let list = Command.list(
      table: "Interface", records: [port],
      columns: ["mac_in_use", "mtu", "addresses", "attachment", "error"], ifExists: false)
    guard let rows = try send(finishing ? [finish, list] : [list]).last?.rows,
      let row = rows.rows.first
    else { throw PluginError(.inputOutput, "the daemon says nothing of port \(port)") }
    let attachment = rows.entries("attachment", row)
    return PortState(
      mac: rows.text("mac_in_use", row).flatMap { MACAddress($0) },
      mtu: rows.text("mtu", row).flatMap { Int($0) },
      addresses: rows.texts("addresses", row).compactMap {
        InterfaceAddress($0)
      },
      gateways: (attachment["gateway"] ?? "").split(separator: ",").compactMap {
        IPAddress(String($0))
      },
      error: rows.text("error", row))
  }

  /// Removes a port with its interface; one that is not there is no error.
  func remove(_ port: AttachedPort) throws(PluginError) {
    _ = try send([.deletePort(bridge: nil, port: port.name, ifExists: true)])
  }
}
