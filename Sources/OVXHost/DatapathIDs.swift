internal import OVXControl
internal import OVXDatapath

/// The numbers by which the data plane knows bridges, ports and peers.
struct DatapathIDs {
  /// A port as the data plane sees it.
  ///
  /// One that moves to another bridge, or whose tunnel gets another VNI, is another port to it:
  /// nothing that was learned there may be believed here.
  struct PortName: Hashable {
    var name: String
    var bridge: String
    var vni: VNI?
  }

  /// A remote VTEP of a tunnel port.
  ///
  /// However it is sent to: what was learned of it stays when a tunnel's options change.
  struct PeerName: Hashable {
    var port: PortName
    var remote: IPAddress
  }

  /// What has numbers for a port.
  private struct Known {
    var port: PortName
    var peers: [PeerName]
  }

  /// By the names of ports.
  private var known: [String: Known] = [:]
  private var bridges = IDAllocator<String>(below: BridgeID.limit)
  private var ports = IDAllocator<PortName>(below: PortID.limit)
  private var peers = IDAllocator<PeerName>(from: 1, below: RemoteVTEPID.limit)

  func bridge(_ name: String) -> BridgeID? {
    bridges[name].map { BridgeID(rawValue: UInt16(truncatingIfNeeded: $0)) }
  }

  func port(_ name: PortName) -> PortID? {
    ports[name].map { PortID(rawValue: UInt16(truncatingIfNeeded: $0)) }
  }

  func peer(_ name: PeerName) -> RemoteVTEPID? {
    peers[name].map { RemoteVTEPID(rawValue: UInt16(truncatingIfNeeded: $0)) }
  }

  /// Gives numbers to what has none yet, and takes back those of what is gone.
  ///
  /// What finds no number left has none afterwards; a configuration within the limits always does.
  ///
  /// - Parameters:
  ///   - configuration: What there is.
  ///   - desired: What that needs.
  ///   - changed: The ports and bridges that may be otherwise than last time; `nil` for all.
  mutating func update(
    for configuration: Configuration, _ desired: DesiredState,
    _ changed: Configuration.Changes? = nil
  ) {
    for name in changed?.bridges ?? Set(bridges.names).union(configuration.bridges.keys) {
      if configuration.bridges[name] == nil {
        bridges.release(name)
      } else {
        _ = bridges.number(for: name)
      }
    }
    for name in changed?.ports ?? Set(known.keys).union(configuration.ports.keys) {
      update(for: configuration, desired, port: name)
    }
  }

  /// The same of one port.
  mutating func update(
    for configuration: Configuration, _ desired: DesiredState, port name: String
  ) {
    let old = known[name]
    let new = configuration.ports[name].map { port in
      let tunnel = desired.tunnels[name]
      let portName = PortName(name: name, bridge: port.bridge, vni: tunnel?.vni)
      return Known(
        port: portName,
        peers: tunnel?.remotes.map { PeerName(port: portName, remote: $0.address) } ?? [])
    }
    known[name] = new
    if let old, old.port != new?.port { ports.release(old.port) }
    let kept = Set(new?.peers ?? [])
    for peer in old?.peers ?? [] where !kept.contains(peer) { peers.release(peer) }
    guard let new else { return }
    _ = ports.number(for: new.port)
    for peer in new.peers { _ = peers.number(for: peer) }
  }

  /// Frees the numbers that were taken back: the data plane has a topology without them.
  mutating func releaseQuarantined() {
    bridges.releaseQuarantined()
    ports.releaseQuarantined()
    peers.releaseQuarantined()
  }
}
