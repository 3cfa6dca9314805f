// Commands in the words of `ovx-ctl`, for the log of who has changed what.

extension Request {
  /// Bytes of a summary at most.
  package static let summaryLimit = 800

  /// What it changes, in words: on one line of bounded length, and without the values of
  /// `external_ids`, in which programs keep what they like.
  package var changeSummary: String {
    let changes = commands.filter { $0.right == .change }
    var text = ""
    for (index, command) in changes.enumerated() {
      let words = printable(brief(command.summary.joined(separator: " ")))
      guard text.utf8.count + words.utf8.count <= Self.summaryLimit else {
        let rest = changes.count - index
        return text + (text.isEmpty ? "" : " -- and ") + "\(rest) command\(rest == 1 ? "" : "s")"
          + (text.isEmpty ? " too long for the log" : " more")
      }
      text += (text.isEmpty ? "" : " -- ") + words
    }
    return text
  }
}

extension Command {
  /// Values that are named, of what may be thousands.
  private static let valueLimit = 16

  /// The words of a command that changes something.
  fileprivate var summary: [String] {
    switch self {
    case .addBridge(let bridge, _): ["add-br", bridge]
    case .deleteBridge(let bridge, _): ["del-br", bridge]
    case .addPort(let bridge, let port, let settings, _):
      ["add-port", bridge, port] + Self.words(settings)
    case .deletePort(let bridge, let port, _): ["del-port"] + Self.words(bridge) + [port]
    case .attach(let bridge, let attachment, let settings, _):
      ["attach", bridge, attachment.target, attachment.interface]
        + attachment.addresses.prefix(Self.valueLimit).map { "ip=\($0)" } + Self.words(settings)
    case .detach(let target, let interface, _): ["detach", target, interface]
    case .detachStale: ["detach --stale"]
    case .addNetwork(let network, let settings, _): ["add-net", network] + Self.words(settings)
    case .deleteNetwork(let network, _): ["del-net", network]
    case .reserveAddress(let network, _, let address):
      ["reserve an address of", network] + (address.map { ["\($0)"] } ?? [])
    case .releaseAddress(let network, let address): ["release", "\(address)", "of", network]
    case .openGateway(let network, let target): ["open the gateway of", network, "in", target]
    case .set(let table, let record, let settings, _):
      ["set", table, record] + Self.words(settings)
    case .add(let table, let record, let column, let values, _):
      ["add", table, record, column] + Self.words(values, of: column)
    case .remove(let table, let record, let column, let values, _):
      ["remove", table, record, column] + Self.words(values, of: column)
    case .clear(let table, let record, let columns, _):
      ["clear", table, record] + columns.prefix(Self.valueLimit)
    case .create(let table, _, let settings): ["create", table] + Self.words(settings)
    case .destroy(let table, let records, _):
      ["destroy", table] + (records?.prefix(Self.valueLimit) ?? ["--all"])
    case .apply(let configuration, _):
      [
        "apply a file of \(configuration.bridges.count) bridges, \(configuration.ports.count) ports, "
          + "\(configuration.networks.count) networks"
      ]
    case .flushAddresses(let bridge): ["fdb flush"] + Self.words(bridge)
    case .addAddress(let bridge, let port, let vlan, let address):
      ["fdb add", bridge, port, "\(vlan)", "\(address)"]
    case .deleteAddress(let bridge, let vlan, let address):
      ["fdb del", bridge, "\(vlan)", "\(address)"]
    case .flushNeighbors(let bridge): ["neigh flush"] + Self.words(bridge)
    case .agent(let update): ["agent's \(update.phase.rawValue)"]
    case .gateways: ["report of gateways"]
    case .unfreezeStation(let network, let mac): ["evpn unfreeze", network, "\(mac)"]
    case .setLogLevel(let level): ["log set", level.rawValue]
    case .capture(let target, _, _): ["capture", target]
    case .captureDrops(let target, _, _): ["capture --drops"] + Self.words(target)
    case .endCapture: ["end of a capture"]
    case .confirmWithin(let seconds): ["--confirm-within \(seconds)"]
    case .confirm(let undo): [undo ? "confirm --undo" : "confirm"]
    case .exit(let cleanup): [cleanup ? "exit --cleanup" : "exit"]
    default: []
    }
  }

  private static func words(_ name: String?) -> [String] { name.map { [$0] } ?? [] }

  private static func words(_ settings: [Setting]) -> [String] {
    settings.prefix(valueLimit).map { setting in
      let name = setting.column + (setting.key.map { ":\($0)" } ?? "")
      return isPrivate(setting.column) ? "\(name)=..." : "\(name)=\(setting.value)"
    } + (settings.count > valueLimit ? ["..."] : [])
  }

  private static func words(_ values: [String], of column: String) -> [String] {
    isPrivate(column)
      ? ["..."] : values.prefix(valueLimit) + (values.count > valueLimit ? ["..."] : [])
  }

  /// Whether values are for others to know the meaning of; names of columns may be shortened, and
  /// be of any letter case.
  private static func isPrivate(_ column: String) -> Bool { column.lowercased().hasPrefix("e") }
}
