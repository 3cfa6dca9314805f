import OVXControl
import OVXDatapath

@testable import OVXHost
@testable import OVXLinux

/// A data plane that forwards nothing, and watches over what it is told.
final class FakeDataPlane: DataPlaneCommands {
  private final class Held {
    let name: String
    private var queues: Queues?

    init(_ queues: consuming Queues, _ name: String) {
      self.name = name
      self.queues = consume queues
    }

    func take() -> Queues? { queues.take() }
  }

  private let journal: Journal
  private var devices: [PortID: Held] = [:]
  private var listeners: [ListenerID: Held] = [:]
  private var sockets: [UnderlaySocketID: Held] = [:]
  private var injectors: [InjectorID: Held] = [:]
  private(set) var topology = Topology()
  /// What was done that must not be: a topology that names what is not there, or something that is
  /// taken from one.
  private(set) var violations: [String] = []
  var oversizeReports: [OversizeReport] = []
  /// What is said where it is to use a fast path.
  var fastPathRefusal: LinuxError?
  private(set) var announcements: [AnnouncementOrder] = []
  /// The tables of a real one, which no frame comes to.
  private var datapath = unsafe Datapath(seed: 1) { _, _ in }

  init(_ journal: Journal) { self.journal = journal }

  /// What it holds, in alphabetical order.
  var held: [String] {
    (Array(devices.values) + Array(listeners.values) + Array(sockets.values)
      + Array(injectors.values)).map(\.name).sorted()
  }

  /// The number of the port whose device stands for something.
  func port(of name: String) -> PortID? { devices.first { $0.value.name == name }?.key }
  func listener(_ name: String) -> ListenerID? { listeners.first { $0.value.name == name }?.key }
  func sockets(_ name: String) -> [UInt32] {
    sockets.filter { $0.value.name == name }.map(\.key.rawValue).sorted()
  }
  func injector(_ name: String) -> InjectorID? { injectors.first { $0.value.name == name }?.key }

  // MARK: DataPlaneCommands

  let queueCount = 1
  func queueCount(of endpoint: ListenerID) -> Int { 1 }

  func attach(_ device: consuming TAP, as port: PortID) throws(LinuxError) {
    try attach(device.takeQueues(), as: port)
  }

  func attach(_ device: consuming PacketSocket, as port: PortID) throws(LinuxError) {
    try attach(device.takeQueues(), as: port)
  }

  private func attach(_ queues: consuming Queues, as port: PortID) throws(LinuxError) {
    let name = journal.name(of: queues.first)
    try journal.perform("attach \(name)")
    if devices[port] != nil { violations.append("\(name) is put in the place of another device") }
    devices[port] = Held(queues, name)
  }

  func detach(_ port: PortID) -> Queues? {
    guard let device = devices.removeValue(forKey: port) else { return nil }
    journal.note("detach \(device.name)")
    return device.take()
  }

  private func open(
    _ queues: consuming Queues, insteadOf former: Held?
  ) throws(LinuxError) -> Held {
    let name = journal.name(of: queues.first)
    try journal.perform("open \(name)")
    if former != nil { violations.append("\(name) is put in the place of another") }
    return Held(queues, name)
  }

  func open(_ endpoint: ListenerID, socket: consuming UDPSocket) throws(LinuxError) {
    listeners[endpoint] = try open(socket.takeQueues(), insteadOf: listeners[endpoint])
  }

  func close(_ endpoint: ListenerID) {
    guard let listener = listeners.removeValue(forKey: endpoint) else { return }
    journal.note("close \(listener.name)")
    for tunnel in tunnels where tunnel.endpoint == endpoint {
      violations.append("\(listener.name) is closed, and VNI \(tunnel.vni) receives by it")
    }
  }

  func open(_ path: UnderlaySocketID, socket: consuming UDPSocket) throws(LinuxError) {
    sockets[path] = try open(socket.takeQueues(), insteadOf: sockets[path])
  }

  func close(_ path: UnderlaySocketID) {
    guard let socket = sockets.removeValue(forKey: path) else { return }
    journal.note("close \(socket.name)")
    for peer in tunnels.flatMap(\.peers) where peer.paths.contains(path.rawValue) {
      violations.append("\(socket.name) is closed, and \(peer.remote) is sent to by it")
    }
  }

  func open(_ number: InjectorID, injector: consuming Injector) throws(LinuxError) {
    injectors[number] = try open(Queues(injector.takeDescriptor()), insteadOf: injectors[number])
  }

  func close(_ number: InjectorID) {
    guard let injector = injectors.removeValue(forKey: number) else { return }
    journal.note("close \(injector.name)")
  }

  func useFastPath(_ isOn: Bool) throws(LinuxError) {
    if let fastPathRefusal { throw fastPathRefusal }
    journal.note("fast path \(isOn)")
  }

  func fastPathState(ofDevice index: UInt32, isUnderlay: Bool) -> FastPathState {
    isUnderlay ? .attached : .ready
  }

  func apply(_ topology: Topology) {
    journal.note("apply")
    self.topology = topology
    datapath.apply(topology)
    for port in topology.ports {
      if case .device = port.attachment, devices[port.id] == nil {
        violations.append("port \(port.id.rawValue) is to have a device that is not open")
      }
    }
    for tunnel in tunnels {
      if listeners[tunnel.endpoint] == nil {
        violations.append("VNI \(tunnel.vni) is to receive by a socket that is not open")
      }
      for peer in tunnel.peers {
        if peer.paths.contains(where: { sockets[UnderlaySocketID(rawValue: $0)] == nil }) {
          violations.append("\(peer.remote) is to be sent to by a socket that is not open")
        }
        if let injection = peer.injection, injectors[injection.injector] == nil {
          violations.append("\(peer.remote) is to be sent to by an injector that is not open")
        }
      }
    }
  }

  func announce(_ orders: [AnnouncementOrder]) { announcements += orders }

  func take(_ entries: [ExternalEntry], vlan: VLANID, bridge: BridgeID) -> Int {
    datapath.take(entries, vlan: vlan, bridge: bridge)
  }

  func addresses(of bridge: BridgeID) -> [KnownAddress] { datapath.addresses(of: bridge) }

  func neighbors(of bridge: BridgeID) -> [KnownNeighbor] { datapath.neighbors(of: bridge) }

  func takeOversizeReports() -> [OversizeReport] {
    defer { oversizeReports = [] }
    return oversizeReports
  }

  private var tunnels: [Topology.Tunnel] {
    topology.ports.compactMap { port in
      if case .tunnel(let tunnel) = port.attachment { tunnel } else { nil }
    }
  }
}
