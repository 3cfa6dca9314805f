internal import OVXControl

// Replies as tables: what -f table, list and csv print.

extension Output {
  func table(of reply: Reply) -> TextTable {
    switch reply {
    case .done, .answer, .names, .values, .flushed, .configuration: TextTable([], [])
    case .changes(let changes): changeTable(changes)
    case .logLevel(let level): TextTable(["Level"], [[.text(level.rawValue)]])
    case .records(let list): TextTable(list.columns, list.rows)
    case .show(let show): showTable(show)
    case .links(let links): linkTable(links)
    case .addresses(let bridges): addressTable(bridges, named: format != .table)
    case .addressStatistics(let statistics):
      TextTable(
        [
          "Bridge", "Current", "Limit", "Static", "Agent", "Learned", "Expired", "Evicted", "Moved",
          "Unlearned",
        ],
        statistics.map {
          [
            .text($0.bridge), .number($0.current), .number($0.limit), .number($0.statics),
            .number($0.external), .number($0.learned), .number($0.expired), .number($0.evicted),
            .number($0.moved),
            .number($0.unlearned),
          ]
        }
      )
    case .neighbors(let bridges): neighborTable(bridges, named: format != .table)
    case .neighborStatistics(let statistics): neighborStatisticsTable(statistics)
    case .statistics(let ports): statisticsTable(ports)
    case .drops(let drops):
      TextTable(
        ["Port", "Reason", "Count", "Sentence"],
        drops.map {
          [.text($0.port ?? "-"), .text($0.reason), .number($0.count), .text($0.sentence)]
        }
      )
    case .tunnels(let tunnels): tunnelTable(tunnels)
    case .events(let events): eventTable(events)
    case .networks(let networks): networkTable(networks)
    case .evpn(let state): evpnNetworkTable(state)
    case .evpnRoutes(let routes): evpnRouteTable(routes)
    case .evpnVTEPs(let vteps): evpnVTEPTable(vteps)
    case .trace(let trace): traceTable(trace)
    case .capture, .captureEnd, .signs: TextTable([], [])
    case .version(let versions):
      TextTable(
        ["ovx-ctl", "ovx-vswitchd", "pid", "kernel"],
        [
          [
            .text(OVXVersion.current), .text(versions.daemon), .number(versions.pid),
            .text(versions.kernel),
          ]
        ]
      )
    }
  }

  private func showTable(_ show: Show) -> TextTable {
    var rows: [[Datum]] = []
    for bridge in show.bridges {
      for port in bridge.ports {
        rows.append([
          .text(bridge.name), .text(port.name),
          .scalar(port.tag.map { Atom($0) }), port.trunksDatum,
          .text(port.interface.type?.rawValue ?? ""), port.interface.optionsDatum,
          .scalar(port.interface.error.map(Atom.text)),
        ])
      }
    }
    return TextTable(["bridge", "port", "tag", "trunks", "type", "options", "error"], rows)
  }

  /// `show --brief`: one line a port.
  func briefTable(_ show: Show) -> TextTable {
    var rows: [[Datum]] = []
    for bridge in show.bridges {
      for port in bridge.ports {
        let interface = port.interface
        let vlans =
          port.tag.map { "\($0)" }
          ?? (port.trunks.isEmpty
            ? "" : port.trunks.sorted().map { "\($0)" }.joined(separator: ","))
        let remote = interface.options["key"].map { key in
          "vni \(key) to \(interface.options["remote_ip"] ?? "?")"
        }
        rows.append([
          .text(bridge.name), .text(port.name), .text(vlans),
          .text(interface.type?.rawValue ?? ""), .text(interface.linkState ?? ""),
          .text(interface.mac.map { "\($0)" } ?? ""),
          .text((interface.addresses ?? []).map(\.description).joined(separator: " ")),
          .text(remote ?? interface.peer ?? ""), .text(interface.error ?? ""),
        ])
      }
    }
    return TextTable(
      ["Bridge", "Port", "VLAN", "Type", "Link", "MAC", "Addresses", "Other-end", "Error"], rows)
  }

  /// `show --links`: who is at the other end of each port.
  private func linkTable(_ links: [PortLink]) -> TextTable {
    TextTable(
      ["Bridge", "Port", "Index", "Peer", "Peer-index", "Namespace", "Addresses"],
      links.map { link in
        [
          .text(link.bridge), .text(link.port), .scalar(link.index.map { .integer(Int($0)) }),
          .text(link.peer ?? link.remotes.map { "\($0)" }.joined(separator: " ")),
          .scalar(link.peerIndex.map { .integer(Int($0)) }),
          .text(link.namespace.map(\.text) ?? ""),
          .text(link.addresses.map(\.description).joined(separator: " ")),
        ]
      })
  }

  func addressTable(_ bridges: [BridgeAddresses], named: Bool = false) -> TextTable {
    let hasRemotes = bridges.contains { $0.entries.contains { $0.remote != nil } }
    let columns =
      (named ? ["Bridge"] : []) + ["Port", "VLAN", "MAC", "Age"] + (hasRemotes ? ["Remote"] : [])
    var rows: [[Datum]] = []
    for bridge in bridges {
      for entry in bridge.entries {
        var row: [Datum] = named ? [.text(bridge.bridge)] : []
        row += [.text(entry.port), .scalar(Atom(entry.vlan)), .text("\(entry.mac)")]
        row.append(entry.age.map { .number($0) } ?? .text(entry.isExternal ? "agent" : "static"))
        if hasRemotes { row.append(.text(entry.remote.map { "\($0)" } ?? "")) }
        rows.append(row)
      }
    }
    return TextTable(columns, rows)
  }

  /// A row for each value that changes.
  private func changeTable(_ changes: [Change]) -> TextTable {
    var rows: [[Datum]] = []
    for change in changes {
      let head: [Datum] = [
        .text(change.action.rawValue), .text(change.bridge ?? ""), .text(change.port ?? ""),
      ]
      let tail: [Datum] = [.text(change.network ?? "")]
      if change.values.isEmpty { rows.append(head + [.text(""), .text(""), .text("")] + tail) }
      for value in change.values {
        rows.append(head + [.text(value.column), value.from, value.to] + tail)
      }
    }
    return TextTable(["Action", "Bridge", "Port", "Column", "From", "To", "Network"], rows)
  }

  func neighborTable(_ bridges: [BridgeNeighbors], named: Bool = false) -> TextTable {
    let hasRemotes = bridges.contains { $0.entries.contains { $0.remote != nil } }
    let hasRivals = bridges.contains { $0.entries.contains { $0.rival != nil } }
    let columns =
      (named ? ["Bridge"] : []) + ["Port", "VLAN", "IP", "MAC", "Router", "Age"]
      + (hasRemotes ? ["Remote"] : []) + (hasRivals ? ["Rival"] : [])
    var rows: [[Datum]] = []
    for bridge in bridges {
      for entry in bridge.entries {
        var row: [Datum] = named ? [.text(bridge.bridge)] : []
        row += [
          .text(entry.port), .scalar(Atom(entry.vlan)), .text("\(entry.ip)"), .text("\(entry.mac)"),
          .text(entry.router ? "yes" : "no"),
          entry.external == true ? .text("agent") : .number(entry.age),
        ]
        if hasRemotes { row.append(.text(entry.remote.map { "\($0)" } ?? "")) }
        if hasRivals { row.append(.text(entry.rival.map { "\($0)" } ?? "")) }
        rows.append(row)
      }
    }
    return TextTable(columns, rows)
  }

  private func neighborStatisticsTable(_ statistics: [BridgeNeighborStatistics]) -> TextTable {
    TextTable(
      [
        "Bridge", "Current", "Limit", "Learned", "Moved", "Expired", "Evicted", "Limited",
        "Answered", "Unread",
      ],
      statistics.map {
        [
          .text($0.bridge), .number($0.current), .number($0.limit), .number($0.learned),
          .number($0.moved), .number($0.expired), .number($0.evicted), .number($0.limited),
          .number($0.answered), .number($0.unread),
        ]
      })
  }

  private func statisticsTable(_ ports: [PortStatistics]) -> TextTable {
    TextTable(
      ["Bridge", "Port", "RX-frames", "RX-bytes", "TX-frames", "TX-bytes", "Drops", "Answered"],
      ports.map {
        [
          .text($0.bridge), .text($0.port), .number($0.receivedFrames), .number($0.receivedBytes),
          .number($0.sentFrames), .number($0.sentBytes), .number($0.droppedFrames),
          .number($0.answeredFrames),
        ]
      }
    )
  }

  private func traceTable(_ trace: Trace) -> TextTable {
    TextTable(
      ["Step", "Port", "Remote", "Reason", "Text"],
      trace.steps.map { step in
        [
          .text(step.kind.rawValue), .text(step.port ?? ""),
          .text(step.remote.map { "\($0)" } ?? ""), .text(step.reason ?? ""), .text(step.text),
        ]
      }
    )
  }

  func tunnelTable(_ tunnels: Tunnels) -> TextTable {
    // Two columns only where the two ends of a tunnel count differently.
    let hasFastPath = tunnels.tunnels.contains { $0.remotes.contains { $0.fastPath != nil } }
    let hasTwoVNIs = tunnels.tunnels.contains { $0.outgoingVNI != nil }
    var rows: [[Datum]] = []
    for tunnel in tunnels.tunnels {
      let outgoing = Datum.scalar(Atom(tunnel.outgoingVNI ?? tunnel.vni))
      for remote in tunnel.remotes {
        rows.append([.text(tunnel.port), .text(tunnel.bridge), .scalar(Atom(tunnel.vni))])
        rows[rows.count - 1] += hasTwoVNIs ? [outgoing] : []
        rows[rows.count - 1] += [
          .text(tunnel.local.map { "\($0)" } ?? "any"), .text("\(remote.address)"),
          .number(tunnel.destinationPort), .text(remote.mtu.map(String.init) ?? "-"),
          .text(remote.device ?? "-"), .number(remote.sourcePorts),
          .text(remote.superframes ?? "-"),
        ]
        rows[rows.count - 1] += hasFastPath ? [.text(remote.fastPath ?? "-")] : []
        rows[rows.count - 1].append(.text(remote.error ?? "ok"))
      }
    }
    return TextTable(
      ["Port", "Bridge"] + (hasTwoVNIs ? ["VNI-in", "VNI-out"] : ["VNI"]) + [
        "Local", "Remote", "UDP-port", "MTU", "Device", "Source-ports", "Superframes",
      ] + (hasFastPath ? ["Fast-path"] : []) + ["State"],
      rows
    )
  }
}

extension PortLink.Namespace {
  /// What it is called by those who see it: `red1`, `web1`, `3fa2b1c0d9e8 (pid 4711)`, `pid 4711`.
  fileprivate var text: String {
    let process = pid.map { "pid \($0)" }
    if let name { return name }
    guard let container else { return process ?? "unknown" }
    let isID = container.count == 64
    let word = isID ? String(container.prefix(12)) : container
    return process.map { "\(word) (\($0))" } ?? word
  }
}

extension Show.Port {
  var trunksDatum: Datum { .set(trunks.map { Atom($0) }) }
}

extension Show.Interface {
  var optionsDatum: Datum { .map(options.mapValues(Atom.text)) }
}

extension Datum {
  static func text(_ text: String) -> Datum { .scalar(.text(text)) }
  static func number(_ number: some BinaryInteger) -> Datum {
    .scalar(.integer(Int(clamping: number)))
  }
}
