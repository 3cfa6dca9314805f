import Glibc
import Logging
import OVXControl
import OVXDatapath
import Testing

@testable import OVXHost
@testable import OVXLinux

/// A host with a reconciler, over a fake kernel and a fake data plane.
struct World {
  let journal = Journal()
  let kernel: FakeKernel
  let dataplane: FakeDataPlane
  let reconciler: Reconciler
  let ownership: DeviceOwnership
  private let rundir: Scratch

  /// - Parameters:
  ///   - descriptorLimit: Descriptors that the daemon may have.
  ///   - adoptedVeths: What a former daemon has noted of veths that have their MTU from it.
  /// - Throws: Where the host has no containers' engines to look at.
  init(descriptorLimit: Int = 4096, adoptedVeths: String? = nil) throws {
    rundir = Scratch()
    if let adoptedVeths {
      let file = NoteFile(rundir.path + "/adopted-veths")
      for line in adoptedVeths.split(separator: "\n") { file.append(String(line)) }
    }
    ownership = DeviceOwnership(database: rundir.path + "/conf.db", rundir: rundir.path)
    kernel = FakeKernel(journal, ownership)
    dataplane = FakeDataPlane(journal)
    let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
    reconciler = Reconciler(
      of: kernel, and: dataplane, ownership: ownership, identity: 1, containers: try Containers(),
      descriptorLimit: descriptorLimit,
      filter: UnderlayFilter(database: rundir.path, isWanted: false, logger: logger))
    kernel.add("eth0", kind: nil)
  }

  /// A folder that goes with its owner.
  private final class Scratch {
    let path = "/tmp/ovx-host-\(UInt64.random(in: 0...UInt64.max))"
    init() { unsafe mkdir(path, 0o700) }
    deinit {
      unsafe unlink(path + "/container-devices")
      unsafe unlink(path + "/adopted-veths")
      unsafe rmdir(path)
    }
  }

  /// What is noted of veths that have their MTU from the daemon.
  var adoptedVeths: String { Files.read(rundir.path + "/adopted-veths", limit: 1 << 16) ?? "" }

  /// Puts a configuration in force, as a command does.
  func put(_ configuration: Configuration, isCommanded: Bool = true) {
    reconciler.reconcile(
      to: configuration, configuration.changes(since: reconciler.configuration),
      DesiredState(configuration), isCommanded: isCommanded)
  }

  /// Changes the configuration in force.
  func change(_ change: (inout Configuration) throws -> Void) rethrows {
    var configuration = reconciler.configuration
    try change(&configuration)
    put(configuration)
  }

  /// The sentence of a port's fault.
  func fault(_ port: String) -> String? { reconciler.fault(of: port)?.sentence }

  /// The number of a remote VTEP of a tunnel.
  func remoteVTEP(_ remote: String, of tunnel: String) throws -> RemoteVTEPID {
    let address = try #require(IPAddress(remote))
    return try #require(reconciler.remoteVTEP(address, of: tunnel))
  }

  /// Whether the data plane forwards by a port.
  func isInService(_ port: String) -> Bool {
    guard let id = reconciler.port(port),
      let record = dataplane.topology.ports.first(where: { $0.id == id })
    else { return false }
    return record.attachment != .waiting
  }

  /// Checks what holds at any time.
  func check(_ comment: Comment? = nil) {
    #expect(dataplane.violations == [], comment)
    #expect(journal.openDescriptors == dataplane.held, "nothing is open that is not in use")
    for name in reconciler.configuration.ports.keys.sorted() {
      #expect(
        isInService(name) || reconciler.fault(of: name)?.isOutage == true
          || reconciler.desired.tunnels[name]?.remotes.isEmpty == true,
        "port \(name) is in service, or it is said why not")
    }
  }

  /// Checks that nothing is left of anything.
  func checkEmpty(_ comment: Comment? = nil) {
    #expect(dataplane.topology == Topology(), comment)
    #expect(dataplane.held == [], comment)
    #expect(journal.openDescriptors == [], comment)
    #expect(kernel.made == [], comment)
    #expect(kernel.filters == [], comment)
    #expect(reconciler.faults.isEmpty, comment)
  }

  /// The host's end of the veth in `everything`.
  static let hostEnd = DesiredState.ContainerInterface(
    target: "/proc/self/ns/net", name: "eth1"
  ).hostEnd

  /// One of each kind of port: a bridge's own, an existing device, a TAP, one in a container, a
  /// veth to a container and a tunnel of two VTEPs.
  static func everything() throws -> Configuration {
    var configuration = try Configuration.make("add-br br0")
    try configuration.add("veth1", to: "br0", type: .system, tag: 100)
    try configuration.add("tap1", to: "br0", type: .tap, tag: 100)
    try configuration.add("c1", to: "br0", type: .tap, tag: 100) {
      $0.attachment = Configuration.Attachment(
        target: "/proc/self/ns/net", interface: "eth0", addresses: [], gateways: [])
    }
    try configuration.add("v1", to: "br0", type: .veth, tag: 100) {
      $0.attachment = Configuration.Attachment(
        target: "/proc/self/ns/net", interface: "eth1", addresses: [], gateways: [])
    }
    try configuration.addTunnel(
      "vx1", to: "br0", key: 7, remotes: "192.0.2.1,192.0.2.2", tag: 100)
    return configuration
  }

  /// What `everything` needs.
  func prepare() {
    kernel.add("veth1")
    kernel.route("192.0.2.1", over: "eth0")
    kernel.route("192.0.2.2", over: "eth0")
  }
}
