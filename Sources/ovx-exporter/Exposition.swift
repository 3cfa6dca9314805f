internal import OVXControl
private import OVXDatapath

/// Metrics as text, in one of the two formats that Prometheus reads.
///
/// Source: OpenMetrics 1.0.0; "Exposition formats", Prometheus text format 0.0.4. In the first a
/// counter's family has no `_total`, and the text an end.
struct Exposition {
  enum Format {
    case openMetrics, prometheus

    var contentType: String {
      switch self {
      case .openMetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8"
      case .prometheus: "text/plain; version=0.0.4; charset=utf-8"
      }
    }
  }

  private enum Kind: String {
    case counter, gauge
  }

  private(set) var text = ""
  private let format: Format

  /// Writes down the state of the switch, or that it does not answer.
  init(of state: Result<SwitchState, ControlError>, _ format: Format) {
    self.format = format
    switch state {
    case .failure: family("ovx_up", .gauge, "Whether the daemon answers.", [([], 0)])
    case .success(let state):
      family("ovx_up", .gauge, "Whether the daemon answers.", [([], 1)])
      family(
        "ovx_build_info", .gauge, "The daemon's version.",
        [([("version", state.version.daemon)], 1)])
      family(
        "ovx_control_latency_seconds", .gauge, "How long the daemon took for this answer.",
        [([], state.latency)])
      ports(state)
      tunnels(state)
      networks(state)
      tables(state)
    }
    if format == .openMetrics { text += "# EOF\n" }
  }

  // MARK: Families

  private mutating func ports(_ state: SwitchState) {
    families(
      of: state.ports, .counter, labels: { [("bridge", $0.bridge), ("port", $0.port)] },
      [
        ("ovx_port_received_frames", "Frames that came in by the port.", { $0.receivedFrames }),
        ("ovx_port_received_bytes", "Bytes of these.", { $0.receivedBytes }),
        ("ovx_port_sent_frames", "Frames that left by the port.", { $0.sentFrames }),
        ("ovx_port_sent_bytes", "Bytes of these.", { $0.sentBytes }),
        (
          "ovx_port_answered_frames", "Questions for neighbors that the switch answered.",
          { $0.answeredFrames }
        ),
        (
          "ovx_port_reported_frames",
          "Frames too large for their path, of which the sender was told.", { $0.reportedFrames }
        ),
        (
          "ovx_port_unheard_frames",
          "Frames for a group that nobody else was there to hear.", { $0.unheardFrames }
        ),
      ])
    family(
      "ovx_drops", .counter, "Lost frames by port and reason; without a port those of no tunnel.",
      state.drops.map { ([("port", $0.port ?? ""), ("reason", $0.reason)], Double($0.count)) })
    family(
      "ovx_port_up", .gauge, "Whether the port is in service and its device carries frames.",
      state.bridges.flatMap { bridge in
        bridge.ports.map { port in
          let isUp = port.interface.error == nil && port.interface.linkState != "down"
          return (
            [
              ("bridge", bridge.name), ("port", port.name), ("network", port.network ?? ""),
              ("type", port.interface.type?.rawValue ?? ""),
            ], isUp ? 1 : 0
          )
        }
      })
  }

  private mutating func tunnels(_ state: SwitchState) {
    let remotes = state.tunnels.tunnels.flatMap { tunnel in
      tunnel.remotes.map { (tunnel: tunnel, remote: $0) }
    }
    func labels(_ tunnel: Tunnels.Tunnel, _ remote: Tunnels.Remote) -> [(String, String)] {
      [("port", tunnel.port), ("vni", "\(tunnel.vni)"), ("remote", "\(remote.address)")]
    }
    family(
      "ovx_remote_up", .gauge, "Whether there is a way to the remote VTEP.",
      remotes.map { (labels($0.tunnel, $0.remote), $0.remote.error == nil ? 1 : 0) })
    family(
      "ovx_remote_mtu_bytes", .gauge, "The largest IP packet that fits the way to the remote VTEP.",
      remotes.compactMap { entry in
        entry.remote.mtu.map { (labels(entry.tunnel, entry.remote), Double($0)) }
      })
    family(
      "ovx_underlay_refused_packets", .counter,
      "Packets of other programs to remote VTEPs that the underlay filter has refused.",
      state.tunnels.filter?.refused.map { [([], Double($0))] } ?? [])
  }

  private mutating func networks(_ state: SwitchState) {
    families(
      of: state.networks, .gauge, labels: { [("network", $0.name), ("vni", "\($0.vni)")] },
      [
        ("ovx_network_members", "Ports of the network on this host.", { $0.members.count }),
        ("ovx_network_addresses_used", "Addresses of members and gateways.", { $0.addressesUsed }),
        (
          "ovx_network_addresses_free", "Addresses that this host can still hand out.",
          { $0.addressesFree }
        ),
        (
          "ovx_network_up", "Whether nothing is wrong with the network's tunnel and gateway.",
          { $0.error == nil ? 1 : 0 }
        ),
      ])
  }

  private mutating func tables(_ state: SwitchState) {
    families(
      of: state.addressTables, .gauge, labels: { [("bridge", $0.bridge)] },
      [
        ("ovx_fdb_entries", "Ethernet addresses that are known.", { $0.current }),
        ("ovx_fdb_limit", "How many there may be.", { $0.limit }),
      ])
    families(
      of: state.addressTables, .counter, labels: { [("bridge", $0.bridge)] },
      [
        ("ovx_fdb_learned", "Addresses learned.", { $0.learned }),
        ("ovx_fdb_moved", "Addresses seen at another port than before.", { $0.moved }),
        ("ovx_fdb_evicted", "Addresses forgotten to make room.", { $0.evicted }),
      ])
    families(
      of: state.neighborTables, .gauge, labels: { [("bridge", $0.bridge)] },
      [
        ("ovx_neighbor_entries", "IP addresses that are known.", { $0.current }),
        ("ovx_neighbor_limit", "How many there may be.", { $0.limit }),
      ])
  }

  // MARK: Text

  /// Several families that have a sample of each record.
  private mutating func families<Record, Value: BinaryInteger>(
    of records: [Record], _ kind: Kind, labels: (Record) -> [(String, String)],
    _ list: [(name: String, help: String, value: (Record) -> Value)]
  ) {
    for entry in list {
      family(
        entry.name, kind, entry.help, records.map { (labels($0), Double(entry.value($0))) })
    }
  }

  private mutating func family(
    _ name: String, _ kind: Kind, _ help: String, _ samples: [([(String, String)], Double)]
  ) {
    let sample = kind == .counter ? "\(name)_total" : name
    let family = format == .openMetrics ? name : sample
    text += "# HELP \(family) \(help)\n# TYPE \(family) \(kind.rawValue)\n"
    for (labels, value) in samples {
      text += sample
      if !labels.isEmpty {
        let list = labels.map { "\($0.0)=\"\(Self.escaped($0.1))\"" }.joined(separator: ",")
        text += "{\(list)}"
      }
      text += " \(Self.number(value))\n"
    }
  }

  /// A label's value: a quotation mark, a backslash and the end of a line are escaped.
  static func escaped(_ value: String) -> String {
    value.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
  }

  /// A whole number without a fraction.
  private static func number(_ value: Double) -> String {
    Int64(exactly: value).map { "\($0)" } ?? "\(value)"
  }
}
