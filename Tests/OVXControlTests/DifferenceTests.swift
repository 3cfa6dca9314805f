import OVXControl
import OVXDatapath
import Testing

@testable import ovx_ctl

@Suite struct DifferenceTests {
  private func lines(_ old: Workbench, _ new: Workbench) -> [String] {
    old.configuration.changes(to: new.configuration).map(\.description)
  }

  @Test func nothing() throws {
    let bench = try Workbench("add-br br0", "add-port br0 veth1 tag=7")
    #expect(lines(bench, bench).isEmpty)
  }

  @Test func comingAndGoing() throws {
    let old = try Workbench("add-br br0", "add-port br0 veth1 tag=7")
    let new = try Workbench(
      "add-br br1", "set port br1 tag=8", "set bridge br1 external_ids:a=b",
      "add-port br1 v key=9 remote=10.0.0.1 tag=8")
    #expect(
      lines(old, new) == [
        "- bridge br0", "- port veth1 of bridge br0", "+ bridge br1: external_ids={a=b}",
        "+ port br1 of bridge br1: tag=8",
        "+ port v of bridge br1: tag=8 type=vxlan options={key=\"9\", remote_ip=\"10.0.0.1\"}",
      ])
  }

  @Test func becomingOtherwise() throws {
    let old = try Workbench("add-br br0", "add-br br1", "add-port br0 veth1 tag=7")
    var new = try Workbench("add-br br0", "add-br br1", "add-port br1 veth1 trunks=5")
    try new.run("set interface veth1 external_ids:a=b")
    try new.run("set interface br0 addresses=10.0.0.1/8")
    #expect(
      lines(old, new) == [
        "~ port br0 of bridge br0: addresses [] -> [\"10.0.0.1/8\"]",
        "~ port veth1 of bridge br1: bridge br0 -> br1, tag 7 -> [], trunks [] -> [5], "
          + "interface.external_ids {} -> {a=b}",
      ])
  }

  /// Nothing that `attach` made can be declared, taken over, or lose its bridge.
  @Test func containersAreTheirOwn() throws {
    var bench = try Workbench("add-br br0", "attach br0 web1 eth0")
    let attached = bench.configuration
    func refusal(_ declared: Configuration) -> String {
      let error = #expect(throws: ControlError.self) {
        try bench.run([.apply(declared, declaresSwitch: false)])
      }
      #expect(bench.configuration == attached)
      return error?.message ?? ""
    }
    #expect(
      refusal(Configuration())
        == "bridge br0 is not in the file, but containers are attached to it (eth0@web1); put it in, or detach "
        + "them first")
    #expect(refusal(attached).contains("under the name of another one"))
    var taken = try Workbench("add-br br0").configuration
    taken.ports["eth0@web1"] = Configuration.Port(
      name: "eth0@web1", bridge: "br0", interface: Configuration.Interface(type: .tap))
    #expect(refusal(taken).contains("belongs to its container"))
    // A client that is not ovx-ctl may send anything.
    var crooked = Configuration()
    crooked.bridges["a"] = Configuration.Bridge(name: "b")
    #expect(refusal(crooked).contains("under the name of another one"))
    let bare = try Workbench("add-br br0", "set port br0 tag=5").configuration
    try bench.run([.apply(bare, declaresSwitch: false)])
    #expect(bench.configuration.ports["eth0@web1"] == attached.ports["eth0@web1"])
    #expect(bench.configuration.ports["br0"]?.tag?.rawValue == 5)
  }
}
