internal import ArgumentParser
private import Foundation
internal import OVXControl

/// How to print: `-f`.
enum OutputFormat: String, CaseIterable, ExpressibleByArgument {
  /// Columns under headings; `show` prints its tree.
  case table
  /// One line per value, `column : value`, with an empty line between records.
  case list
  /// The reply's value as JSON, documented with the types in OVXControl/Reply.swift.
  case json
  /// Comma-separated values with a heading (RFC 4180).
  case csv
}

/// How to print values: `-d`.
enum DataFormat: String, CaseIterable, ExpressibleByArgument {
  /// As `set` reads them.
  case string
  /// Without brackets, commas and quotes.
  case bare
  case json
}

/// Turns a reply into what is printed on standard output.
struct Output {
  let format: OutputFormat
  let command: Command
  /// Whether nobody has named a format.
  private let isDefault: Bool
  private var data: DataFormat?
  private var hasHeadings = true
  private var isOneLine = false
  /// Whether `show` prints a line for each port.
  var isBrief = false

  init(_ options: GlobalOptions.Values, command: Command) {
    self.init(format: options.format, command: command)
    data = options.data
    hasHeadings = options.hasHeadings
    isOneLine = options.isOneLine
  }

  /// - Parameters:
  ///   - format: What `-f` named.
  ///   - command: What the reply answers: `list` and `find` have a default of their own.
  init(format: OutputFormat?, command: Command) {
    self.command = command
    isDefault = format == nil
    switch command {
    case .list, .find: self.format = format ?? .list
    default: self.format = format ?? .table
    }
  }

  /// The text, which ends with a newline unless it is empty.
  func text(of reply: Reply) throws(ControlError) -> String {
    let text = try lines(of: reply)
    switch command {
    // As with ovs-vsctl, records are never put in one line.
    case .list, .find, .reference: return text
    default: break
    }
    guard isOneLine, format != .json else { return text }
    let line = text.hasSuffix("\n") ? text.dropLast() : text[...]
    return line.replacing("\\", with: "\\\\").replacing("\n", with: "\\n") + "\n"
  }

  private func lines(of reply: Reply) throws(ControlError) -> String {
    switch reply {
    case .done, .answer: return ""
    case .flushed(let count) where format != .json:
      if case .flushNeighbors = command {
        return "\(count) \(count == 1 ? "neighbor" : "neighbors") forgotten\n"
      }
      return "\(count) \(count == 1 ? "address" : "addresses") forgotten\n"
    case .names(let names) where format != .json:
      return names.map { $0 + "\n" }.joined()
    case .values(let values) where format != .json:
      return zip(valueNames(values.count), values).map { name, value in
        // A key that is not there, with --if-exists: an empty line, which no value is.
        if value == .scalar(nil), name.contains(":") { return "\n" }
        return text(of: value) + "\n"
      }.joined()
    case .show(let show) where isBrief && format == .table:
      return text(of: briefTable(show))
    case .show(let show) where format == .table:
      return tree(show)
    case .version(let versions) where format == .table:
      return "ovx-ctl \(OVXVersion.current)\n"
        + "ovx-vswitchd \(versions.daemon) (pid \(versions.pid), kernel \(versions.kernel))\n"
    case .trace(let trace) where format == .table:
      return trace.lines.map { $0 + "\n" }.joined()
    case .addresses(let bridges) where format == .table && bridges.count != 1:
      // Several tables, each below its bridge's name.
      return bridges.map { "\($0.bridge)\n" + addressTable([$0]).aligned }.joined(separator: "\n")
    case .neighbors(let bridges) where format == .table && bridges.count != 1:
      return bridges.map { "\($0.bridge)\n" + neighborTable([$0]).aligned }.joined(separator: "\n")
    case .changes(let changes) where format == .table:
      return changes.map { "\($0)\n" }.joined()
    case .configuration(let configuration) where format != .json:
      guard isDefault else {
        throw ControlError(
          "export prints YAML, or JSON with -f json; -f \(format.rawValue) is not for it")
      }
      return try ExportedFile(configuration: configuration).yaml
    case .logLevel(let level) where format == .table:
      return "\(level.rawValue)\n"
    case .networks(let networks) where format == .table:
      return networks.map(\.tree).joined()
    case .evpn(let state) where format == .table:
      return state.tree
    case .events(let events) where format == .table:
      return events.map(\.line).joined()
    case .tunnels(let tunnels) where format == .table:
      return tunnelTable(tunnels).aligned + foot(of: tunnels)
    default: break
    }
    if case .json = format { return try json(reply) }
    return text(of: table(of: reply))
  }

  /// A table as the options say.
  private func text(of table: TextTable) -> String {
    var table = table
    table.hasHeadings = hasHeadings
    if let data, data != .string { table.text = { self.text(of: $0, data) } }
    switch format {
    case .table, .json: return table.aligned
    case .list: return table.list
    case .csv: return table.csv
    }
  }

  private func text(of value: Datum) -> String { text(of: value, data ?? .string) }

  private func text(of value: Datum, _ data: DataFormat) -> String {
    switch data {
    case .string: value.description
    case .bare: value.bare
    case .json: Self.line(value)
    }
  }

  /// A value as JSON in one line.
  private static func line(_ value: Datum) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return (try? encoder.encode(value)).map { String(decoding: $0, as: UTF8.self) } ?? "null"
  }

  /// The columns that `get` was asked for.
  private func valueNames(_ count: Int) -> [String] {
    if case .get(_, _, let columns, _) = command, columns.count == count { return columns }
    return Array(repeating: "", count: count)
  }

  // MARK: JSON

  private func json(_ reply: Reply) throws(ControlError) -> String {
    switch reply {
    case .done, .answer: ""
    case .names(let names): try Self.encode(names)
    case .values(let values): try Self.encode(values)
    case .records(let list): try Self.encode(list.objects)
    case .show(let show): try Self.encode(show)
    case .links(let links): try Self.encode(links)
    case .addresses(let bridges):
      try Self.encode(Dictionary(bridges.map { ($0.bridge, $0.entries) }, uniquingKeysWith: +))
    case .addressStatistics(let statistics): try Self.encode(statistics)
    case .neighbors(let bridges):
      try Self.encode(Dictionary(bridges.map { ($0.bridge, $0.entries) }, uniquingKeysWith: +))
    case .neighborStatistics(let statistics): try Self.encode(statistics)
    case .flushed(let count): try Self.encode(["flushed": count])
    case .statistics(let statistics): try Self.encode(statistics)
    case .drops(let drops): try Self.encode(drops)
    case .tunnels(let tunnels): try Self.encode(tunnels)
    case .events(let events): try Self.encode(events)
    case .networks(let networks): try Self.encode(networks)
    case .trace(let trace): try Self.encode(trace)
    // None is printed: the frames are, and signs are for agents.
    case .capture, .captureEnd, .signs: ""
    case .changes(let changes): try Self.encode(changes)
    case .configuration(let configuration):
      try ExportedFile(configuration: configuration).json
    case .logLevel(let level): try Self.encode(["level": level])
    case .version(let versions): try Self.encode(versions)
    case .evpn(let state): try Self.encode(state)
    case .evpnRoutes(let routes): try Self.encode(routes)
    case .evpnVTEPs(let vteps): try Self.encode(vteps)
    }
  }

  static func encode(_ value: some Encodable) throws(ControlError) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes, .prettyPrinted]
    guard let data = try? encoder.encode(value) else {
      throw ControlError("the answer cannot be printed as JSON")
    }
    return String(decoding: data, as: UTF8.self) + "\n"
  }

  // MARK: show

  /// The tree of `ovs-vsctl show`.
  private func tree(_ show: Show) -> String {
    var lines: [String] = []
    for bridge in show.bridges {
      lines.append("Bridge \(bridge.name)")
      for port in bridge.ports {
        lines.append("    Port \(port.name)")
        if let mode = port.vlanMode { lines.append("        vlan_mode: \(mode.rawValue)") }
        if let network = port.network { lines.append("        network: \(printable(network))") }
        if let tag = port.tag { lines.append("        tag: \(tag)") }
        if !port.trunks.isEmpty { lines.append("        trunks: \(port.trunksDatum)") }
        if !port.customerVLANs.isEmpty {
          lines.append("        cvlans: \(Datum.set(port.customerVLANs.map { Atom($0) }))")
        }
        let interface = port.interface
        lines.append("        Interface \(interface.name)")
        if let type = interface.type { lines.append("            type: \(type.rawValue)") }
        if !interface.options.isEmpty {
          lines.append("            options: \(interface.optionsDatum)")
        }
        if let target = interface.target, let inside = interface.inside {
          let entries: [String: Atom] = ["target": .text(target), "interface": .text(inside)]
          lines.append("            attachment: \(Datum.map(entries))")
        }
        if let state = interface.linkState { lines.append("            link_state: \(state)") }
        if let peer = interface.peer { lines.append("            peer: \(quoted(peer))") }
        if let fastPath = interface.fastPath {
          lines.append("            fast_path: \(quoted(fastPath))")
        }
        if let addresses = interface.addresses, !addresses.isEmpty {
          let list = addresses.map(\.description).joined(separator: ", ")
          lines.append("            addresses: [\(list)]")
        }
        if let error = interface.error { lines.append("            error: \(quoted(error))") }
      }
      for gateway in bridge.gateways ?? [] {
        lines.append("    Network \(printable(gateway.network))")
        lines += gateway.errors.map { "        error: \(quoted($0))" }
      }
    }
    lines.append("ovx_version: \(quoted(show.version))")
    return lines.joined(separator: "\n") + "\n"
  }

  private func quoted(_ text: String) -> String {
    let word = Atom.text(text).description
    return word.hasPrefix("\"") ? word : "\"\(word)\""
  }

  private func foot(of tunnels: Tunnels) -> String {
    var text = ""
    for listener in tunnels.listeners {
      text += "listening on \(listener.endpoint) for \(listener.tunnels.joined(separator: ", "))\n"
    }
    if !tunnels.features.isEmpty {
      text += "using \(tunnels.features.joined(separator: ", "))\n"
    }
    if let filter = tunnels.filter { text += filter.sentence + "\n" }
    return text
  }
}

extension RecordList {
  /// The records as JSON prints them: an object each.
  fileprivate var objects: [[String: Datum]] {
    rows.map { Dictionary(zip(columns, $0), uniquingKeysWith: { first, _ in first }) }
  }
}
