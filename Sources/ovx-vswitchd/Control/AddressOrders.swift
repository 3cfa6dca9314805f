import OVXControl
import OVXDatapath
import OVXHost
import OVXLinux

/// The static addresses that the commands of one request add and delete, and what was known before,
/// which is given back where a later command is refused.
struct AddressOrders {
  private let running: RunningSwitch
  private let queries: SwitchQueries
  private var former: [Former] = []
  /// The static addresses that there were, by bridge.
  private var known: [String: [Key: PortID]] = [:]

  private struct Key: Hashable {
    var vlan: VLANID
    var address: MACAddress
  }

  /// An address before an order.
  private struct Former {
    var bridge: BridgeID
    var key: Key
    /// Where it was, if it was a static one.
    var port: PortID?
  }

  init(_ running: RunningSwitch, _ queries: SwitchQueries) {
    self.running = running
    self.queries = queries
  }

  private var reconciler: Reconciler { running.reconciler }

  mutating func add(
    _ address: MACAddress, vlan: VLANID, port: String, bridge: String
  ) throws(ControlError) {
    guard let portID = reconciler.port(port), let id = reconciler.bridge(bridge)
    else { throw ControlError("port \(port) of bridge \(bridge) is not in service") }
    note(Key(vlan: vlan, address: address), id, bridge)
    let areAdded = running.dataplane.performOnAll { datapath in
      datapath.addStaticAddress(address, vlan: vlan, on: portID, bridge: id)
    }
    guard !areAdded.contains(false) else {
      throw ControlError(
        "the address table of bridge \(bridge) is full of static addresses; delete some with fdb del, "
          + "or set other_config:mac-table-size")
    }
  }

  mutating func delete(
    _ address: MACAddress, vlan: VLANID, bridge: String
  ) throws(ControlError) {
    let id = reconciler.bridge(bridge)
    if let id { note(Key(vlan: vlan, address: address), id, bridge) }
    let areRemoved = id.map { id in
      running.dataplane.performOnAll { datapath in
        datapath.removeAddress(address, vlan: vlan, bridge: id)
      }
    }
    guard areRemoved?.contains(true) == true else {
      throw Self.unknown(address, vlan: vlan, bridge: bridge)
    }
  }

  /// Refuses addresses to be deleted that nobody knows, and changes nothing.
  ///
  /// - Parameter commands: Those of a request, of which earlier ones may add such an address.
  /// - Throws: Which one is unknown.
  func check(_ commands: [Command]) throws(ControlError) {
    var known: [String: Set<Key>] = [:]
    func look(at bridge: String) {
      guard known[bridge] == nil else { return }
      known[bridge] = Set(
        queries.knownAddresses(on: bridge).map { Key(vlan: $0.vlan, address: $0.address) })
    }
    for command in commands {
      switch command {
      case .addAddress(let bridge, _, let vlan, let address):
        look(at: bridge)
        known[bridge]?.insert(Key(vlan: vlan, address: address))
      case .deleteAddress(let bridge, let vlan, let address):
        look(at: bridge)
        guard known[bridge]?.remove(Key(vlan: vlan, address: address)) != nil else {
          throw Self.unknown(address, vlan: vlan, bridge: bridge)
        }
      default: break
      }
    }
  }

  /// Makes all as it was, but for what was deleted and was not static: that is learned again, or an
  /// agent's to tell.
  func takeBack() {
    for former in former.reversed() {
      _ = running.dataplane.performOnAll { datapath in
        _ = datapath.removeAddress(
          former.key.address, vlan: former.key.vlan, bridge: former.bridge)
        guard let port = former.port else { return }
        _ = datapath.addStaticAddress(
          former.key.address, vlan: former.key.vlan, on: port, bridge: former.bridge)
      }
    }
  }

  private mutating func note(_ key: Key, _ id: BridgeID, _ bridge: String) {
    if known[bridge] == nil {
      let entries = queries.knownAddresses(on: bridge).filter { $0.origin == .static }
      known[bridge] = Dictionary(
        entries.map { (Key(vlan: $0.vlan, address: $0.address), $0.port) },
        uniquingKeysWith: { first, _ in first })
    }
    former.append(Former(bridge: id, key: key, port: known[bridge]?[key]))
  }

  private static func unknown(
    _ address: MACAddress, vlan: VLANID, bridge: String
  ) -> ControlError {
    ControlError(
      "bridge \(bridge) does not know \(address) in VLAN \(vlan); fdb show \(bridge) lists what it knows"
    )
  }
}
