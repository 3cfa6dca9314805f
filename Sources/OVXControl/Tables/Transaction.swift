private import OVXDatapath

/// Commands carried out on a configuration, all of them or none.
///
/// Each command checks, when its turn comes, that what it names exists or does not; it sees what
/// the commands before it have done. Everything else is checked once, on the state that the last
/// command leaves behind: a tunnel may get its key from a later command than the one that made it.
package struct Transaction {
  /// One per command; `nil` for a question or an order to the running switch, which the daemon
  /// answers once the configuration is in force.
  package private(set) var replies: [Reply?] = []
  /// Sentences for the operator about what was accepted, but not quite as typed.
  package internal(set) var notes: [String] = []
  /// What was changed.
  package private(set) var changes = Configuration.Changes()
  /// Addresses of which nothing is known and that somebody is given: to be asked for first, and the
  /// transaction executed again.
  package internal(set) var questions: [AddressQuestion] = []
  /// Addresses that others may be given next, to be asked for ahead; nobody waits for the answers.
  package internal(set) var prospects: [AddressQuestion] = []

  var configuration: Configuration
  let live: LiveState
  /// Ports that were attached, whose VLANs nothing has been said of.
  var unsaid: Set<String> = []
  /// What `create` describes, by id.
  var drafts: [String: Draft] = [:]
  /// Names of records by the ids that `get` gives them.
  var references: [String: String] = [:]
  /// Ports that `destroy` has deleted.
  var destroyed: Set<String> = []
  /// Names and values in all replies so far.
  private(set) var answered = 0

  /// Commands in one request at most.
  package static let commandLimit = 16384
  /// Names and values in all answers of one request at most: what keeps a response within its 64
  /// MiB.
  private static let answerLimit = 1_000_000

  /// Carries out commands in order, then settles the types of interfaces and validates the result.
  ///
  /// - Parameters:
  ///   - commands: At most `commandLimit`.
  ///   - configuration: Changed where all is well, untouched where an error is thrown.
  ///   - live: The host as it is.
  /// - Returns: The replies, and what the operator should know.
  /// - Throws: The first thing that is wrong, in words.
  package static func execute(
    _ commands: [Command],
    on configuration: inout Configuration,
    live: LiveState
  ) throws(ControlError) -> Transaction {
    guard commands.count <= commandLimit else {
      throw ControlError(
        "a transaction has at most \(commandLimit) commands, not \(commands.count)"
      )
    }
    var transaction = Transaction(configuration: configuration, live: live)
    try transaction.collectIDs(commands)
    for command in commands {
      let reply = try transaction.execute(command)
      transaction.answered &+= reply?.size ?? 0
      try checkAnswer(transaction.answered)
      transaction.replies.append(reply)
    }
    transaction.noteUnusedDrafts()
    try transaction.settle(before: configuration, scopes: commands.map(\.scope))
    guard !transaction.changes.isEmpty else { return transaction }
    try transaction.checkUnsaidVLANs()
    try transaction.checkVLANsOfHost()
    try transaction.configuration.validate(transaction.changes)
    let known = Set(configuration.notes(on: transaction.changes))
    transaction.notes += transaction.configuration.notes(on: transaction.changes)
      .filter { !known.contains($0) }
    configuration = transaction.configuration
    return transaction
  }

  /// Checks that so many names and values may be in an answer.
  static func checkAnswer(_ size: Int) throws(ControlError) {
    guard size <= answerLimit else {
      throw ControlError("the answer has more than \(answerLimit) values; ask for less at a time")
    }
  }

  init(configuration: Configuration, live: LiveState) {
    self.configuration = configuration
    self.live = live
  }

  mutating func execute(_ command: Command) throws(ControlError) -> Reply? {
    switch command {
    case .addBridge(let bridge, let mayExist):
      try addBridge(bridge, mayExist: mayExist)
    case .addNetwork(let network, let settings, let mayExist):
      try addNetwork(network, settings, mayExist: mayExist)
    case .deleteNetwork(let network, let ifExists):
      try deleteNetwork(network, ifExists: ifExists)
    case .reserveAddress(let network, let subnet, let address):
      return try reserveAddress(in: network, of: subnet, address)
    case .releaseAddress(let network, let address):
      releaseAddress(in: network, address)
    case .openGateway(let network, let target):
      try openGateway(of: network, in: target)
    case .listNetworks:
      return .names(configuration.networks.keys.sorted())
    case .showNetworks(let network):
      if let network, configuration.networks[network] == nil { throw noNetwork(network) }
      return nil
    case .deleteBridge(let bridge, let ifExists):
      try deleteBridge(bridge, ifExists: ifExists)
    case .addPort(let bridge, let port, let settings, let mayExist):
      try addPort(port, to: bridge, settings, mayExist: mayExist)
    case .deletePort(let bridge, let port, let ifExists):
      try deletePort(port, of: bridge, ifExists: ifExists)
    case .attach(let bridge, let attachment, let settings, let mayExist):
      try attach(attachment, to: bridge, settings, mayExist: mayExist)
    case .detach(let target, let interface, let ifExists):
      try detach(interface, from: target, ifExists: ifExists)
    case .detachStale:
      for port in live.goneAttachments() { configuration.ports[port] = nil }
    case .set, .add, .remove, .clear, .get, .list, .find, .waitUntil:
      return try executeOnTable(command)
    case .create(let table, let id, let settings):
      return try create(table, id: id, settings)
    case .destroy(let table, let records, let ifExists):
      try destroy(table, records, ifExists: ifExists)
    case .reference(let id, let table, let record):
      try refer(id, to: record, of: table)
    case .comment: break
    case .confirmWithin(let seconds):
      guard Command.confirmRange.contains(seconds) else {
        throw ControlError(
          "a change can be confirmed within 1 to \(Command.confirmRange.upperBound) seconds, not \(seconds)"
        )
      }
    case .apply(let declared, let declaresSwitch):
      return try apply(declared, declaresSwitch: declaresSwitch)
    case .export:
      return .configuration(configuration)
    case .listBridges:
      return .names(configuration.bridges.keys.sorted())
    case .bridgeExists(let bridge):
      return .answer(configuration.bridges[bridge] != nil)
    case .listPorts(let bridge):
      try requireBridge(bridge)
      return .names(configuration.ports(of: bridge).filter { !$0.isBridgeInternal }.map(\.name))
    case .portToBridge(let port):
      return .names([try requirePort(port).bridge])
    case .bridgeParent(let bridge):
      try requireBridge(bridge)
      return .names([bridge])
    case .bridgeVLAN(let bridge):
      try requireBridge(bridge)
      return .names(["0"])
    case .bridgeExternalIDs(let bridge, let key):
      try requireBridge(bridge)
      let entries = configuration.bridges[bridge]?.externalIDs ?? [:]
      if let key { return .names(entries[key].map { [$0] } ?? []) }
      return .names(entries.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" })
    case .showBridge(let bridge), .showLinks(.some(let bridge)):
      try requireBridge(bridge)
      return nil
    case .showAddresses(let bridges), .addressStatistics(let bridges),
      .showNeighbors(let bridges), .neighborStatistics(let bridges):
      for bridge in bridges { try requireBridge(bridge) }
      return nil
    case .flushAddresses(let bridge), .flushNeighbors(let bridge):
      if let bridge { try requireBridge(bridge) }
      return nil
    case .agent(let update):
      try update.validate()
      return nil
    case .gateways(let report):
      try report.validate()
      return nil
    case .signs(let vteps):
      guard vteps.count <= SignsOfLife.limit else {
        throw ControlError(
          "signs are asked of at most \(SignsOfLife.limit) VTEPs at a time, not \(vteps.count)")
      }
      return nil
    case .showEVPN, .showEVPNRoutes, .showEVPNVTEPs, .unfreezeStation:
      throw ControlError("that is asked of ovx-evpn, on a socket of its own: ovx-ctl evpn show")
    case .addAddress(let bridge, let port, let vlan, let address):
      try checkAddress(address, on: port, vlan: vlan, of: bridge)
      return nil
    case .deleteAddress(let bridge, _, _):
      try requireBridge(bridge)
      return nil
    case .statistics(let port):
      if let port { try requirePort(port) }
      return nil
    case .capture(let target, _, _):
      guard configuration.bridges[target] != nil || configuration.ports[target] != nil else {
        throw ControlError(
          "no bridge or port named \(printable(target)); ovx-ctl show lists what there is")
      }
      return nil
    case .captureDrops(let target, _, _):
      guard let target else { return nil }
      return try execute(.capture(target: target, program: [], snapshotLength: 1))
    case .traceTo(let port, _, _):
      try requirePort(port)
      return nil
    case .trace(let bridge, let port, _):
      try requireBridge(bridge)
      let owner = try requirePort(port).bridge
      guard owner == bridge else {
        throw ControlError("port \(port) is on bridge \(owner), not on \(bridge)")
      }
      return nil
    case .show, .showLinks(.none), .drops, .showTunnels, .showEvents, .logLevel, .setLogLevel,
      .endCapture,
      .version, .exit, .watch, .confirm:
      return nil
    }
    return .done
  }

  /// Adds what follows from the commands, and finds out what has changed.
  ///
  /// - Parameters:
  ///   - original: The state before all commands.
  ///   - scopes: What each of them can have changed; `nil` for anything.
  /// - Throws: What contradicts a network, in words.
  private mutating func settle(
    before original: Configuration, scopes: [Configuration.Changes?]
  ) throws(ControlError) {
    if scopes.contains(where: { $0 == nil }) {
      changes = configuration.changes(since: original)
    } else {
      var candidates = Configuration.Changes()
      for scope in scopes.compactMap(\.self) {
        candidates.bridges.formUnion(scope.bridges)
        candidates.ports.formUnion(scope.ports)
        candidates.networks.formUnion(scope.networks)
        candidates.host = candidates.host || scope.host
      }
      changes = configuration.changes(since: original, among: candidates)
    }
    var changes = self.changes
    try settleNetworks(before: original, &changes)
    self.changes = changes
    settleTypes()
    // What was deleted and made anew may only now be what it was.
    self.changes = configuration.changes(since: original, among: changes)
    for name in self.changes.ports.sorted()
    where configuration.ports[name]?.interface.type == .system && !live.deviceExists(name) {
      notes.append("port \(name) waits until this host has a network device \(name)")
    }
  }

  /// Names what nothing has named: an interface with a tunnel's options is a tunnel, one whose
  /// device exists is that.
  private mutating func settleTypes() {
    // All others have been settled.
    for name in changes.ports {
      guard let interface = configuration.ports[name]?.interface, interface.type == nil else {
        continue
      }
      let options = interface.options
      if Configuration.Tunnel.optionNames.contains(where: { options[$0] != nil }) {
        configuration.ports[name]?.interface.type = .vxlan
      } else if live.deviceExists(name) {
        configuration.ports[name]?.interface.type = .system
      }
    }
  }
  // MARK: Preconditions

  func requireBridge(_ name: String) throws(ControlError) {
    guard configuration.bridges[name] != nil else { throw noBridge(name) }
  }

  @discardableResult
  func requirePort(_ name: String) throws(ControlError) -> Configuration.Port {
    guard let port = configuration.ports[name] else { throw noPort(name) }
    return port
  }

  private func checkAddress(
    _ address: MACAddress,
    on name: String,
    vlan: VLANID,
    of bridge: String
  ) throws(ControlError) {
    try requireBridge(bridge)
    let port = try requirePort(name)
    guard port.bridge == bridge else {
      throw ControlError(
        "bridge \(bridge) does not have a port \(name); it belongs to bridge \(port.bridge)"
      )
    }
    guard !address.isGroup, address.rawValue != 0 else {
      throw ControlError(
        "\(address) cannot be in the address table, as it is zero or a group address"
      )
    }
    guard port.vlans.carries(vlan) else {
      throw ControlError(
        "port \(name) does not carry VLAN \(vlan); "
          + (port.tag.map { "its tag is \($0)" } ?? "its trunks are \(trunks(of: port))")
      )
    }
    if let tunnel = port.interface.tunnel, tunnel.remotes.count > 1 {
      throw ControlError(
        "port \(name) has \(tunnel.remotes.count) remotes, so a static address does not say which one; "
          + "make a tunnel port of the same key for that remote alone"
      )
    }
  }

  private func trunks(of port: Configuration.Port) -> String {
    port.trunks.sorted().map(\.description).joined(separator: ",")
  }

  func noBridge(_ name: String) -> ControlError {
    let names = configuration.bridges.keys.sorted()
    return ControlError(
      "no bridge named \(printable(name)); "
        + (names.isEmpty
          ? "there is none yet, and add-br makes one" : "the bridges are \(shortened(names))")
        + (configuration.networks.isEmpty
          ? "" : "; the networks are \(shortened(configuration.networks.keys.sorted()))")
    )
  }

  private func noPort(_ name: String) -> ControlError {
    let alike = configuration.ports.keys.filter {
      $0.lowercased().hasPrefix(name.lowercased().prefix(3))
    }
    return ControlError(
      "no port named \(printable(name)); "
        + (alike.isEmpty
          ? "show lists the ports" : "there are \(shortened(alike.sorted()))")
    )
  }
}

/// A list of names for a sentence, eight at most.
func shortened(_ names: [String]) -> String {
  names.prefix(8).joined(separator: ", ") + (names.count > 8 ? " and \(names.count - 8) more" : "")
}
extension Command {
  /// The records that the command can change; `nil` where they are not known beforehand, or too
  /// many to name.
  fileprivate var scope: Configuration.Changes? {
    guard !isIndirect else { return nil }
    switch self {
    case .addBridge(let bridge, _): return Configuration.Changes(bridges: [bridge], ports: [bridge])
    case .addPort(_, let port, _, _), .deletePort(_, let port, _):
      return Configuration.Changes(ports: [port])
    case .set(let table, let record, _, _), .add(let table, let record, _, _, _),
      .remove(let table, let record, _, _, _), .clear(let table, let record, _, _):
      switch try? Schema.TableName(matching: table) {
      case .bridge: return Configuration.Changes(bridges: [record])
      case .port, .interface: return Configuration.Changes(ports: [record])
      case .network: return Configuration.Changes(networks: [record])
      case .host: return Configuration.Changes(host: true)
      case nil: return nil
      }
    case .addNetwork(let network, _, _), .deleteNetwork(let network, _),
      .reserveAddress(let network, _, _), .releaseAddress(let network, _):
      return Configuration.Changes(networks: [network])
    case .deleteBridge, .attach, .openGateway, .detach, .detachStale, .apply, .destroy: return nil
    default: return Configuration.Changes()
    }
  }

  /// Whether it names its record otherwise than by name, or is about the ports of a bridge or the
  /// bridges of the switch.
  private var isIndirect: Bool {
    func isNoName(_ record: String) -> Bool { record.hasPrefix("@") || RecordID.isText(record) }
    switch self {
    case .set(_, let record, _, _), .clear(_, let record, _, _): return isNoName(record)
    case .add(_, let record, let column, _, _), .remove(_, let record, let column, _, _):
      return isNoName(record) || ["p", "b"].contains(column.lowercased().prefix(1))
    default: return false
    }
  }
}
