import OVXControl
import OVXDatapath
import OVXSimulation
import Testing

@Suite struct ChangesTests {
  @Test func namesWhatIsNewGoneOrOtherwise() throws {
    var bench = try Workbench(
      "add-br br0 -- add-br br1 -- add-port br0 veth1 -- add-port br0 veth2")
    let old = bench.configuration
    #expect(old.changes(since: old).isEmpty)
    try bench.run("del-port veth1 -- add-port br1 veth3 -- set port veth2 tag=5 -- add-br br2")
    try bench.run("set bridge br1 external_ids:a=b")
    let changes = bench.configuration.changes(since: old)
    #expect(changes.bridges == ["br1", "br2"])
    #expect(changes.ports == ["veth1", "veth2", "veth3", "br2"])
    let back = old.changes(since: bench.configuration)
    #expect(back == changes)
  }

  /// A change is refused, with the same words, whether all is looked at or only what it concerns.
  @Test func whatWasValidNeedNotBeLookedAtAgain() {
    var random = SeededRandom()
    var refused = 0
    for _ in 0..<300 {
      let old = RandomConfiguration.make(&random)
      var new = old
      for _ in 0..<Int.random(in: 1...3, using: &random) { disturb(&new, &random) }
      let thorough = verdict { () throws(ControlError) in try new.validate() }
      let quick = verdict { () throws(ControlError) in try new.validate(new.changes(since: old)) }
      #expect(quick == thorough, "\(random)")
      if thorough != nil { refused += 1 }
    }
    #expect(refused > 30 && refused < 270, "\(refused) of 300 were refused; \(random)")
  }

  private func verdict(_ body: () throws(ControlError) -> Void) -> String? {
    do {
      try body()
      return nil
    } catch {
      return error.message
    }
  }

  /// Changes something, for good or ill.
  private func disturb(_ configuration: inout Configuration, _ random: inout SeededRandom) {
    let names = configuration.ports.keys.sorted()
    guard let name = names.randomElement(using: &random) else { return }
    let other = configuration.ports[names.randomElement(using: &random) ?? name]
    switch Int.random(in: 0..<9, using: &random) {
    case 0: configuration.ports[name] = nil
    case 1: configuration.bridges[name] = nil
    case 2: configuration.ports[name]?.tag = VLANID(rawValue: 7)
    case 3: configuration.ports[name]?.interface = other?.interface ?? Configuration.Interface()
    case 4:
      configuration.ports[name]?.interface = Configuration.Interface(type: .vxlan)
      configuration.ports[name]?.interface.options = ["key": "1", "remote_ip": "10.0.0.1"]
    case 5: configuration.ports[name]?.interface.options["key"] = "x"
    case 6:
      var port = Configuration.Port(name: "new", bridge: other?.bridge ?? "?")
      port.interface.type = .tap
      configuration.ports["new"] = port
    case 7: configuration.bridges[name]?.otherConfig["mac-aging-time"] = "soon"
    default:
      configuration.ports[name]?.trunks = [VLANID(rawValue: 5), VLANID(rawValue: 7)].reduce(into: []
      ) { set, vlan in if let vlan { set.insert(vlan) } }
    }
  }
}
