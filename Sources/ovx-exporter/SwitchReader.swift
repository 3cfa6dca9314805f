internal import OVXControl
internal import OVXDatapath

/// All that the switch says of itself at one moment.
struct SwitchState: Encodable, Sendable {
  var version: Versions
  var bridges: [Show.Bridge]
  var ports: [PortStatistics]
  var drops: [Drop]
  var tunnels: Tunnels
  var networks: [NetworkDescription]
  var addressTables: [BridgeAddressStatistics]
  var neighborTables: [BridgeNeighborStatistics]
  /// What has happened last, newest first.
  var events: [SwitchEvent]
  /// How long the daemon took to answer, in seconds.
  var latency: Double
}

/// Where an address is: a line of the search.
struct AddressPlace: Encodable, Equatable, Sendable {
  var bridge: String
  var port: String
  var vlan: VLANID
  var mac: MACAddress
  var ip: IPAddress?
  var remote: IPAddress?
}

/// Asks the switch, one question at a time, however many ask.
actor SwitchReader {
  private let client: ControlClient
  private var last: (time: ContinuousClock.Instant, state: Result<SwitchState, ControlError>)?

  /// Who asks this soon after another is given the same answer.
  private static let freshness = Duration.milliseconds(500)
  /// Seconds that the daemon has for an answer.
  private static let patience = 5.0
  /// How many events are told.
  private static let eventLimit = 100
  /// How many lines a search gives at most.
  static let searchLimit = 100

  init(_ client: ControlClient) { self.client = client }

  /// The state of the switch, not older than half a second.
  func state() -> Result<SwitchState, ControlError> {
    let now = ContinuousClock.now
    if let last, now - last.time < Self.freshness { return last.state }
    let state: Result<SwitchState, ControlError>
    do throws(ControlError) { state = .success(try ask()) } catch { state = .failure(error) }
    last = (.now, state)
    return state
  }

  private func ask() throws(ControlError) -> SwitchState {
    let begin = ContinuousClock.now
    let replies = try send([
      .version, .show, .statistics(port: nil), .drops, .showTunnels, .showNetworks(network: nil),
      .addressStatistics(bridges: []), .neighborStatistics(bridges: []),
      .showEvents(last: Self.eventLimit),
    ])
    guard replies.count == 9, case .version(let version) = replies[0],
      case .show(let show) = replies[1], case .statistics(let ports) = replies[2],
      case .drops(let drops) = replies[3], case .tunnels(let tunnels) = replies[4],
      case .networks(let networks) = replies[5],
      case .addressStatistics(let addresses) = replies[6],
      case .neighborStatistics(let neighbors) = replies[7], case .events(let events) = replies[8]
    else { throw ControlError("the daemon has answered something else than was asked") }
    return SwitchState(
      version: version, bridges: show.bridges, ports: ports, drops: drops, tunnels: tunnels,
      networks: networks, addressTables: addresses, neighborTables: neighbors,
      events: events.reversed(),
      latency: (ContinuousClock.now - begin) / .seconds(1))
  }

  /// Finds Ethernet and IP addresses that begin with a text.
  ///
  /// - Parameter text: The beginning of an address, as it is printed.
  /// - Returns: As many as `searchLimit`.
  /// - Throws: What the daemon answers instead.
  func places(of text: String) throws(ControlError) -> [AddressPlace] {
    let text = text.lowercased()
    guard !text.isEmpty else { return [] }
    let replies = try send([.showAddresses(bridges: []), .showNeighbors(bridges: [])])
    guard replies.count == 2, case .addresses(let bridges) = replies[0],
      case .neighbors(let neighbors) = replies[1]
    else { throw ControlError("the daemon has answered something else than was asked") }
    let stations = neighbors.flatMap { bridge in
      bridge.entries.map {
        AddressPlace(
          bridge: bridge.bridge, port: $0.port, vlan: $0.vlan, mac: $0.mac, ip: $0.ip,
          remote: $0.remote)
      }
    }
    let known = Set(stations.map { "\($0.bridge) \($0.vlan) \($0.mac)" })
    let others = bridges.flatMap { bridge in
      bridge.entries.filter { !known.contains("\(bridge.bridge) \($0.vlan) \($0.mac)") }.map {
        AddressPlace(
          bridge: bridge.bridge, port: $0.port, vlan: $0.vlan, mac: $0.mac, remote: $0.remote)
      }
    }
    let found = (stations + others).filter { place in
      "\(place.mac)".hasPrefix(text) || place.ip.map { "\($0)".hasPrefix(text) } ?? false
    }
    return Array(found.prefix(Self.searchLimit))
  }

  /// What would become of a frame, a line for each decision.
  ///
  /// - Parameters:
  ///   - port: By which it comes in.
  ///   - words: As `ovx-ctl trace` takes them: a frame, or "to ADDRESS".
  /// - Returns: The lines.
  /// - Throws: What is wrong with the words, or what the daemon answers.
  func trace(from port: String, _ words: String) throws(ControlError) -> [String] {
    let list = words.split(separator: " ").map(String.init)
    let command: Command
    if list.first == "to" {
      command = try .trace(to: Array(list.dropFirst()), from: port)
    } else {
      let bridges = try state().get().bridges
      guard let bridge = bridges.first(where: { $0.ports.contains { $0.name == port } }) else {
        throw ControlError("there is no port \(port)")
      }
      command = .trace(
        bridge: bridge.name, port: port, frame: try TracedFrame(list.joined(separator: ",")))
    }
    guard case .trace(let trace)? = try send([command]).first else {
      throw ControlError("the daemon has answered something else than was asked")
    }
    return trace.lines
  }

  private func send(_ commands: [Command]) throws(ControlError) -> [Reply] {
    try client.replies(to: commands, timeout: Self.patience)
  }
}
