/// What a command is, to all who handle commands without carrying them out: the right that it
/// takes, its words in the log of who has changed what, and its answer.
package struct CommandDeclaration {
  package let right: Right
  /// The words of `ovx-ctl`, bounded, for a command that changes something; empty for another.
  let words: () -> [String]
  package let answer: Answer
  package let extent: Extent

  /// Which case of `Reply` it is answered with, by the name of that.
  package enum Answer: String, Sendable {
    case done, names, answer, values, records, show, links, addresses, addressStatistics, neighbors
    case neighborStatistics, flushed, statistics, drops, tunnels, events, networks, changes
    case configuration, logLevel, trace, capture, captureEnd, version, signs, evpn, evpnRoutes
    case evpnVTEPs

    /// Whether there is something in it for a person or a program: no bare "done", "yes" or "no".
    package var isPrinted: Bool { self != .done && self != .answer }

    /// Whether it may be a table with thousands of lines.
    package var mayBeTable: Bool {
      [.addresses, .neighbors, .records, .configuration].contains(self)
    }
  }

  /// How long the answer may be.
  package enum Extent: Sendable {
    case short
    /// As long as the part of the configuration that is asked for.
    case long
    /// It describes all of the switch or of its configuration, or a large part.
    case report
  }

  /// A command that changes something, or shows tenants' frames.
  fileprivate static func change(
    _ words: @autoclosure @escaping () -> [String], _ answer: Answer = .done,
    _ extent: Extent = .short
  ) -> Self {
    Self(right: .change, words: words, answer: answer, extent: extent)
  }

  /// A command that asks, or that changes only the transaction that it is in.
  fileprivate static func look(_ answer: Answer, _ extent: Extent = .short) -> Self {
    Self(right: .look, words: { [] }, answer: answer, extent: extent)
  }
}

extension Command {
  /// The one place that decides which commands change something, and what is said of them.
  ///
  /// A capture changes nothing, but shows what tenants say to each other. Values of `external_ids`,
  /// in which programs keep what they like, are never among the words.
  package var declaration: CommandDeclaration {
    switch self {
    // Bridges and ports.
    case .addBridge(let bridge, _): .change(["add-br", bridge])
    case .deleteBridge(let bridge, _): .change(["del-br", bridge])
    case .addPort(let bridge, let port, let settings, _):
      .change(["add-port", bridge, port] + Self.words(settings))
    case .deletePort(let bridge, let port, _): .change(["del-port"] + Self.words(bridge) + [port])
    case .attach(let bridge, let attachment, let settings, _):
      .change(
        ["attach", bridge, attachment.target, attachment.interface]
          + attachment.addresses.prefix(Self.valueLimit).map { "ip=\($0)" } + Self.words(settings))
    case .detach(let target, let interface, _): .change(["detach", target, interface])
    case .detachStale: .change(["detach --stale"])
    case .listBridges, .listPorts: .look(.names, .long)
    case .bridgeExists: .look(.answer)
    case .portToBridge, .bridgeParent, .bridgeVLAN, .bridgeExternalIDs: .look(.names)

    // Networks.
    case .addNetwork(let network, let settings, _):
      .change(["add-net", network] + Self.words(settings))
    case .deleteNetwork(let network, _): .change(["del-net", network])
    case .reserveAddress(let network, _, let address):
      .change(["reserve an address of", network] + (address.map { ["\($0)"] } ?? []), .names)
    case .releaseAddress(let network, let address):
      .change(["release", "\(address)", "of", network])
    case .openGateway(let network, let target):
      .change(["open the gateway of", network, "in", target])
    case .listNetworks: .look(.names)
    case .showNetworks: .look(.networks, .report)

    // Tables.
    case .set(let table, let record, let settings, _):
      .change(["set", table, record] + Self.words(settings))
    case .add(let table, let record, let column, let values, _):
      .change(["add", table, record, column] + Self.words(values, of: column))
    case .remove(let table, let record, let column, let values, _):
      .change(["remove", table, record, column] + Self.words(values, of: column))
    case .clear(let table, let record, let columns, _):
      .change(["clear", table, record] + columns.prefix(Self.valueLimit))
    case .create(let table, _, let settings):
      .change(["create", table] + Self.words(settings), .names)
    case .destroy(let table, let records, _):
      .change(["destroy", table] + (records?.prefix(Self.valueLimit) ?? ["--all"]))
    case .get: .look(.values, .long)
    case .list, .find: .look(.records, .long)
    case .waitUntil, .reference, .comment: .look(.done)

    // The configuration as a whole.
    case .apply(let configuration, _):
      .change(
        [
          "apply a file of \(configuration.bridges.count) bridges, \(configuration.ports.count) ports, "
            + "\(configuration.networks.count) networks"
        ], .changes, .long)
    case .export: .look(.configuration, .report)
    case .confirmWithin(let seconds): .change(["--confirm-within \(seconds)"])
    case .confirm(let undo): .change([undo ? "confirm --undo" : "confirm"])

    // The running switch.
    case .show, .showBridge: .look(.show, .report)
    case .showLinks: .look(.links, .report)
    case .showAddresses: .look(.addresses, .report)
    case .flushAddresses(let bridge): .change(["fdb flush"] + Self.words(bridge), .flushed)
    case .addAddress(let bridge, let port, let vlan, let address):
      .change(["fdb add", bridge, port, "\(vlan)", "\(address)"])
    case .deleteAddress(let bridge, let vlan, let address):
      .change(["fdb del", bridge, "\(vlan)", "\(address)"])
    case .addressStatistics: .look(.addressStatistics, .report)
    case .showNeighbors: .look(.neighbors, .report)
    case .flushNeighbors(let bridge): .change(["neigh flush"] + Self.words(bridge), .flushed)
    case .neighborStatistics: .look(.neighborStatistics, .report)
    case .statistics: .look(.statistics, .report)
    case .drops: .look(.drops, .report)
    case .showTunnels: .look(.tunnels, .report)
    case .showEvents: .look(.events, .report)
    case .trace, .traceTo: .look(.trace, .report)
    case .logLevel: .look(.logLevel)
    case .setLogLevel(let level): .change(["log set", level.rawValue])
    case .capture(let target, _, _): .change(["capture", target], .capture)
    case .captureDrops(let target, _, _):
      .change(["capture --drops"] + Self.words(target), .capture)
    case .endCapture: .change(["end of a capture"], .captureEnd)
    case .watch: .look(.done)
    case .version: .look(.version)
    case .exit(let cleanup): .change([cleanup ? "exit --cleanup" : "exit"])

    // Agents.
    case .agent(let update): .change(["agent's \(update.phase.rawValue)"], .names)
    case .gateways: .change(["report of gateways"])
    case .signs: .look(.signs)
    case .showEVPN: .look(.evpn)
    case .showEVPNRoutes: .look(.evpnRoutes)
    case .showEVPNVTEPs: .look(.evpnVTEPs)
    case .unfreezeStation(let network, let mac): .change(["evpn unfreeze", network, "\(mac)"])
    }
  }

  /// The right that it takes.
  package var right: Right { declaration.right }

  // MARK: Words

  /// Values that are named, of what may be thousands.
  private static let valueLimit = 16

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
