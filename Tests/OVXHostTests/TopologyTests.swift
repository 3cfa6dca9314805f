import OVXControl
import OVXDatapath
import OVXSimulation
import Testing

@testable import OVXHost

@Suite struct TopologyTests {
  /// A kernel that gives everything that is not in `missing`.
  struct Kernel {
    var missing: Set<String> = []
    var endpoints: [DesiredState.Endpoint: ListenerID] = [:]
    var paths: [DesiredState.Peer: Range<UInt32>] = [:]

    init(_ desired: DesiredState, missing: Set<String> = []) {
      self.missing = missing
      let endpointList = Set(desired.tunnels.values.map(\.endpoint)).sorted { "\($0)" < "\($1)" }
      for (index, endpoint) in endpointList.enumerated() {
        endpoints[endpoint] = ListenerID(rawValue: UInt16(index))
      }
      let peers = Set(desired.tunnels.values.flatMap(\.peers)).sorted { "\($0)" < "\($1)" }
      for (index, peer) in peers.enumerated() {
        paths[peer] = UInt32(index * 16)..<UInt32(index * 16 + 16)
      }
    }

    var provision: Provision {
      Provision(
        device: { missing.contains($0) ? nil : Topology.Device(mtu: 1450, capabilities: .all) },
        endpoint: { missing.contains("\($0.port)") ? nil : endpoints[$0] },
        path: { peer in
          guard !missing.contains("\(peer.remote.address)") else { return nil }
          return paths[peer].map { ($0, 1450) }
        },
        injection: { peer in
          Injection(
            injector: InjectorID(rawValue: 1),
            outer: OuterPath(
              source: MACAddress(truncating: 2), destination: MACAddress(truncating: 3),
              local: peer.remote.address, remote: peer.remote.address, port: peer.remote.port),
            sourcePorts: [])
        })
    }
  }

  private func topology(
    _ configuration: Configuration, _ datapathIDs: inout DatapathIDs, missing: Set<String> = []
  ) -> Topology {
    let desired = DesiredState(configuration)
    datapathIDs.update(for: configuration, desired)
    // Tunnels have no device.
    let withoutDevices = missing.union(desired.tunnels.keys)
    let kernel = Kernel(desired, missing: withoutDevices)
    return Topology(configuration, desired, datapathIDs, kernel.provision)
  }

  @Test func bridgeWithDevicesAndTunnel() throws {
    var configuration = try Configuration.make("add-br br0")
    configuration.bridges["br0"]?.otherConfig = ["mac-aging-time": "60", "mac-table-size": "100"]
    try configuration.add("veth1", to: "br0", type: .system, tag: 100)
    try configuration.addTunnel("vx1", to: "br0", key: 7, remotes: "192.0.2.1,192.0.2.2", tag: 100)
    var datapathIDs = DatapathIDs()
    let topology = topology(configuration, &datapathIDs)

    #expect(
      topology.bridges == [
        Topology.Bridge(id: BridgeID(rawValue: 0), agingTime: 60, addressLimit: 100)
      ])
    #expect(topology.ports.count == 3)
    let veth = try #require(topology.ports.first { $0.id == datapathIDs.id("veth1", "br0") })
    #expect(veth.vlans == .access(try #require(VLANID(rawValue: 100))))
    #expect(veth.attachment == .device(Topology.Device(mtu: 1450, capabilities: .all)))
    let internalPort = try #require(topology.ports.first { $0.id == datapathIDs.id("br0", "br0") })
    #expect(internalPort.vlans == .trunk(nil))
    let port = try #require(
      topology.ports.first { $0.id == datapathIDs.id("vx1", "br0", vni: 7) })
    guard case .tunnel(let tunnel) = port.attachment else {
      Issue.record("no tunnel: \(port)")
      return
    }
    #expect(tunnel.vni.rawValue == 7)
    #expect(tunnel.peers.map(\.remote.description) == ["192.0.2.1", "192.0.2.2"])
    #expect(tunnel.peers.allSatisfy { $0.id != .none && $0.paths.count == 16 && $0.mtu == 1450 })
    #expect(Set(tunnel.peers.map(\.id)).count == 2)
  }

  @Test func whatIsMissingWaits() throws {
    var configuration = try Configuration.make("add-br br0")
    try configuration.add("veth1", to: "br0", type: .system)
    try configuration.addTunnel("vx1", to: "br0", key: 7, remotes: "192.0.2.1,192.0.2.2", tag: 1)
    var datapathIDs = DatapathIDs()
    let whole = topology(configuration, &datapathIDs)

    let withoutDevice = topology(configuration, &datapathIDs, missing: ["veth1"])
    #expect(withoutDevice.attachment(datapathIDs.id("veth1", "br0")) == .waiting)
    #expect(withoutDevice.ports.map(\.id) == whole.ports.map(\.id), "numbers stay")

    let withoutOneRemote = topology(configuration, &datapathIDs, missing: ["192.0.2.1"])
    let tunnelID = datapathIDs.id("vx1", "br0", vni: 7)
    guard case .tunnel(let tunnel) = withoutOneRemote.attachment(tunnelID) else {
      Issue.record("one remote is enough for a tunnel")
      return
    }
    #expect(tunnel.peers.map(\.remote.description) == ["192.0.2.2"])

    let withoutRemotes = topology(
      configuration, &datapathIDs, missing: ["192.0.2.1", "192.0.2.2"])
    #expect(withoutRemotes.attachment(tunnelID) == .waiting)
    let withoutEndpoint = topology(configuration, &datapathIDs, missing: ["4789"])
    #expect(withoutEndpoint.attachment(tunnelID) == .waiting)
  }

  /// Two tunnels share a way on which superframes can leave whole; only one of them asked for it.
  @Test func superframesLeaveWholeWhereThatIsAskedFor() throws {
    var configuration = try Configuration.make("add-br br0")
    try configuration.addTunnel("vx1", to: "br0", key: 7, remotes: "192.0.2.1", tag: 1)
    try configuration.addTunnel("vx2", to: "br0", key: 8, remotes: "192.0.2.1", tag: 2)
    configuration.ports["vx2"]?.interface.options["superframes"] = "inject"
    var datapathIDs = DatapathIDs()
    let topology = topology(configuration, &datapathIDs)
    for (name, vni, injector) in [("vx1", UInt32(7), UInt16?.none), ("vx2", 8, 1)] {
      guard case .tunnel(let tunnel) = topology.attachment(datapathIDs.id(name, "br0", vni: vni))
      else {
        Issue.record("no tunnel \(name)")
        continue
      }
      #expect(tunnel.peers.map(\.injection?.injector.rawValue) == [injector])
    }
    let desired = DesiredState(configuration)
    #expect(desired.injectedRemotes == Set(desired.tunnels["vx2"]?.remotes ?? []))
  }

  @Test func tunnelsWithoutLocalAddressAlsoReceiveOnBoundSockets() throws {
    var configuration = try Configuration.make("add-br br0")
    try configuration.addTunnel("any", to: "br0", key: 1, remotes: "192.0.2.1", tag: 1)
    try configuration.addTunnel(
      "bound", to: "br0", key: 2, remotes: "192.0.2.1", tag: 2, local: "192.0.2.8")
    try configuration.addTunnel(
      "other", to: "br0", key: 3, remotes: "192.0.2.1", tag: 3, local: "192.0.2.9", port: "4790")
    var datapathIDs = DatapathIDs()
    let topology = topology(configuration, &datapathIDs)
    func tunnel(_ name: String, _ vni: UInt32) throws -> Topology.Tunnel {
      guard case .tunnel(let tunnel) = topology.attachment(datapathIDs.id(name, "br0", vni: vni))
      else { throw ControlError("no tunnel") }
      return tunnel
    }
    #expect(try tunnel("any", 1).fallbackEndpoints == [tunnel("bound", 2).endpoint])
    #expect(try tunnel("bound", 2).fallbackEndpoints.isEmpty)
    #expect(try tunnel("other", 3).fallbackEndpoints.isEmpty)
  }

  @Test func numbersStayAndAreNotReusedTooSoon() throws {
    var configuration = try Configuration.make("add-br br0")
    try configuration.add("a", to: "br0", type: .tap)
    try configuration.add("b", to: "br0", type: .tap)
    var datapathIDs = DatapathIDs()
    _ = topology(configuration, &datapathIDs)
    let a = datapathIDs.id("a", "br0")
    let b = datapathIDs.id("b", "br0")

    configuration.ports["a"] = nil
    try configuration.add("c", to: "br0", type: .tap)
    _ = topology(configuration, &datapathIDs)
    #expect(datapathIDs.id("b", "br0") == b)
    #expect(datapathIDs.id("c", "br0") != a, "not before a topology without it was applied")
    datapathIDs.releaseQuarantined()
    try configuration.add("d", to: "br0", type: .tap)
    _ = topology(configuration, &datapathIDs)
    #expect(datapathIDs.id("d", "br0") == a)
  }

  @Test func whatIsSaidOfAPortReachesTheDataPlane() throws {
    var configuration = try Configuration.make("add-br br0")
    configuration.bridges["br0"]?.otherConfig["joined-vnis"] = "7,8"
    try configuration.add("a", to: "br0", type: .tap)
    configuration.ports["a"]?.otherConfig["priority-tags"] = "always"
    configuration.ports["a"]?.otherConfig["storm-control"] = "500"
    try configuration.add("b", to: "br0", type: .tap)
    try configuration.add("c", to: "br0", type: .tap)
    configuration.ports["c"]?.otherConfig["storm-control"] = "off"
    for key in [7, 8, 9] as [UInt32] {
      try configuration.addTunnel(
        "vx\(key)", to: "br0", key: key, remotes: "192.0.2.1", tag: UInt16(key))
    }
    var datapathIDs = DatapathIDs()
    let topology = topology(configuration, &datapathIDs)
    let tap = topology.ports.first { $0.id == datapathIDs.id("a", "br0") }
    #expect(tap?.priorityTags == .always)
    for (name, copies) in [("a", UInt32(500)), ("b", PortLimits.device.floodedCopies), ("c", .max)]
    {
      let port = topology.ports.first { $0.id == datapathIDs.id(name, "br0") }
      var limits = PortLimits.device
      limits.floodedCopies = copies
      #expect(port?.limits == limits, "\(name)")
    }
    let tunnelPort = topology.ports.first { $0.id == datapathIDs.id("vx7", "br0", vni: 7) }
    #expect(tunnelPort?.limits == .tunnel)
    for (key, isJoined) in [(UInt32(7), true), (8, true), (9, false)] {
      guard
        case .tunnel(let tunnel) = topology.attachment(
          datapathIDs.id("vx\(key)", "br0", vni: key))
      else {
        Issue.record("no tunnel vx\(key)")
        continue
      }
      #expect(tunnel.isJoined == isJoined)
    }
  }

  /// To follow changes one by one comes to the same as to begin anew.
  @Test func changesAddUp() throws {
    var random = SeededRandom()
    let provision = Provision(
      device: { $0.hasPrefix("t") ? Topology.Device(mtu: 1450, capabilities: .all) : nil },
      endpoint: { ListenerID(rawValue: $0.port &- 4789) },
      path: {
        (
          UInt32($0.remote.address.low & 0xFF) * 16..<UInt32($0.remote.address.low & 0xFF) * 16
            + 16, 1450
        )
      },
      injection: { _ in nil })
    var configuration = Configuration()
    var desired = DesiredState()
    var datapathIDs = DatapathIDs()
    var topology = Topology()
    var ids: [String: PortID] = [:]
    for _ in 0..<300 {
      let old = configuration
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        try changeSomething(in: &configuration, &random)
      }
      let changes = configuration.changes(since: old)
      desired.update(to: configuration, changes.ports)
      datapathIDs.update(for: configuration, desired, changes)
      let names =
        changes.bridges.isEmpty ? changes.ports : changes.ports.union(configuration.ports.keys)
      let isChanged = topology.update(names, &ids, configuration, desired, datapathIDs, provision)
      datapathIDs.releaseQuarantined()
      #expect(desired == DesiredState(configuration), "\(random)")
      let whole = Topology(configuration, desired, datapathIDs, provision)
      try #require(topology == whole, "\(random)")
      if !changes.isEmpty { #expect(isChanged || topology.ports.isEmpty, "\(random)") }
    }
  }

  private func changeSomething(
    in configuration: inout Configuration, _ random: inout SeededRandom
  ) throws {
    let bridge = "br\(Int.random(in: 0...2, using: &random))"
    let number = Int.random(in: 0...9, using: &random)
    switch Int.random(in: 0...5, using: &random) {
    case 0: configuration.bridges[bridge] = Configuration.Bridge(name: bridge)
    case 1:
      configuration.bridges[bridge] = nil
      configuration.ports = configuration.ports.filter { $0.value.bridge != bridge }
    case 2 where configuration.bridges[bridge] != nil:
      try configuration.add(
        "t\(number)", to: bridge, type: .tap, tag: UInt16.random(in: 1...3, using: &random))
    case 3 where configuration.bridges[bridge] != nil:
      try configuration.addTunnel(
        "v\(number)", to: bridge, key: UInt32.random(in: 1...3, using: &random),
        remotes: random.pick(["192.0.2.1", "192.0.2.2,192.0.2.3", "192.0.2.3"]),
        tag: 5)
    default:
      configuration.ports["t\(number)"] = nil
      configuration.ports["v\(number)"] = nil
    }
  }

  /// To the data plane a port that moved is another one: addresses learned on it must not follow
  /// it.
  @Test func movedPortIsAnotherOne() throws {
    var configuration = try Configuration.make("add-br br0")
    configuration.bridges["br1"] = Configuration.Bridge(name: "br1")
    try configuration.add("a", to: "br0", type: .tap)
    try configuration.addTunnel("vx1", to: "br0", key: 7, remotes: "192.0.2.1", tag: 1)
    var datapathIDs = DatapathIDs()
    _ = topology(configuration, &datapathIDs)
    let old = [datapathIDs.id("a", "br0"), datapathIDs.id("vx1", "br0", vni: 7)]
    configuration.ports["a"]?.bridge = "br1"
    configuration.ports["vx1"]?.interface.options["key"] = "8"
    let moved = topology(configuration, &datapathIDs)
    let new = [datapathIDs.id("a", "br1"), datapathIDs.id("vx1", "br0", vni: 8)]
    #expect(Set(old).isDisjoint(with: new))
    #expect(moved.ports.count == 3)
  }
}

extension Topology {
  /// Describes a configuration to the data plane.
  fileprivate init(
    _ configuration: Configuration, _ desired: DesiredState, _ datapathIDs: DatapathIDs,
    _ provision: Provision
  ) {
    self.init()
    var ids: [String: PortID] = [:]
    update(Set(configuration.ports.keys), &ids, configuration, desired, datapathIDs, provision)
  }

  fileprivate func attachment(_ id: PortID?) -> Attachment? {
    ports.first { $0.id == id }?.attachment
  }
}

extension DatapathIDs {
  fileprivate func id(_ name: String, _ bridge: String, vni: UInt32? = nil) -> PortID? {
    port(PortName(name: name, bridge: bridge, vni: vni.flatMap(VNI.init(rawValue:))))
  }
}

extension Configuration {
  /// The configuration after commands in the manner of `add-br br0`.
  static func make(_ line: String) throws -> Configuration {
    var configuration = Configuration()
    let words = line.split(separator: " ").map(String.init)
    let bridge = try #require(words.last)
    _ = try Transaction.execute(
      [.addBridge(bridge: bridge, mayExist: false)], on: &configuration,
      live: LiveState(deviceExists: { _ in false }))
    return configuration
  }

  mutating func add(
    _ name: String, to bridge: String, type: InterfaceType, tag: UInt16? = nil,
    _ change: (inout Interface) throws -> Void = { _ in }
  ) throws {
    var port = Port(name: name, bridge: bridge, interface: Interface(type: type))
    port.tag = tag.flatMap(VLANID.init(rawValue:))
    try change(&port.interface)
    ports[name] = port
  }

  mutating func addTunnel(
    _ name: String, to bridge: String, key: UInt32, remotes: String, tag: UInt16,
    local: String? = nil, port: String? = nil
  ) throws {
    try add(name, to: bridge, type: .vxlan, tag: tag) {
      $0.options = ["key": "\(key)", "remote_ip": remotes]
      $0.options["local_ip"] = local
      $0.options["dst_port"] = port
    }
    #expect(ports[name]?.interface.tunnel != nil, "a tunnel that makes sense")
  }
}
