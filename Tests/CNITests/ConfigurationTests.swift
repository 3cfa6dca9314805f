import Foundation
import OVXControl
import OVXDatapath
import Testing

@testable import ovx_cni

@Suite struct ConfigurationTests {
  @Test func places() throws {
    #expect(try configuration("\"network\": \"red\"").place == .network("red"))
    #expect(try configuration().place == .bridge("br0", .unsaid))
    #expect(
      try configuration("\"bridge\": \"br1\", \"tag\": 100").place
        == .bridge("br1", .tag(VLANID(rawValue: 100)!)))
    #expect(
      try configuration("\"vni\": 16777215").place
        == .bridge("br0", .vni(VNI(rawValue: 16_777_215)!)))
    #expect(
      try configuration(
        "\"trunk\": [10, \"11\", \"20-30\", {\"id\": 40}, {\"minID\": 50, \"maxID\": 60}]"
      ).place == .bridge("br0", .trunk([10...10, 11...11, 20...30, 40...40, 50...60])))
  }

  @Test func whatElseIsSaid() throws {
    let whole = try configuration(
      """
      "mtu": 1400, "kind": "veth", "rundir": "/run/ovx1", "ipam": {"type": "host-local"}, "dns": {"nameservers": ["10.0.0.1"]},
      "runtimeConfig": {"mac": "02:00:00:00:00:01", "ips": ["10.0.0.5/24"], "portMappings": []}
      """)
    #expect(whole.mtu == 1400 && whole.runDirectory == "/run/ovx1")
    #expect(whole.addressPlugin == "host-local" && whole.mac == "02:00:00:00:00:01")
    #expect(whole.addresses == ["10.0.0.5/24"])
    let least = try configuration()
    #expect(least.runDirectory == "/run/ovx" && least.addressPlugin == nil && least.mtu == nil)
    // What Go leaves empty is not there.
    let empty = try configuration("\"ipam\": {}, \"bridge\": \"\", \"network\": \"\", \"dns\": {}")
    #expect(empty.addressPlugin == nil && empty.place == .bridge("br0", .unsaid))
    #expect(try empty.kind == "veth" && configuration("\"kind\": \"tap\"").kind == "tap")
    let other = try NetworkConfiguration(
      json("{\"cniVersion\": \"1.0\", \"name\": \"red\"}"), runDirectory: "/run/other")
    #expect(other.version == .v100 && other.runDirectory == "/run/other")
  }

  @Test func contradictions() {
    for members in [
      "\"network\": \"red\", \"bridge\": \"br0\"", "\"network\": \"red\", \"tag\": 1",
      "\"network\": \"red\", \"vni\": 1", "\"network\": \"red\", \"trunk\": [1]",
      "\"tag\": 1, \"trunk\": [1]", "\"tag\": 1, \"vni\": 1", "\"vni\": 1, \"trunk\": [1]",
    ] {
      let error = failure { _ = try configuration(members) }
      #expect(error.code == 7 && !error.message.contains(". "), "\(error.message)")
      for name in ["network", "bridge", "tag", "vni", "trunk"] where members.contains("\"\(name)\"")
      {
        #expect(error.message.contains("\"\(name)\""), "\(error.message)")
      }
    }
  }

  @Test func whatIsWrongIsNamed() {
    for (name, value) in [
      ("tag", "4096"), ("tag", "-1"), ("tag", "\"100\""), ("tag", "1.5"), ("tag", "1e99"),
      ("vni", "16777216"), ("vni", "{}"), ("mtu", "10"), ("kind", "\"bridge\""), ("kind", "1"),
      ("mtu", "99999999999999999999"),
      ("trunk", "[]"), ("trunk", "10"), ("trunk", "[\"30-20\"]"), ("trunk", "[\"1-2-3\"]"),
      ("trunk", "[5000]"), ("trunk", "[{\"minID\": 1}]"), ("trunk", "[\"-\"]"),
      ("bridge", "1"), ("network", "[]"), ("rundir", "\"run/ovx\""), ("rundir", "\"/a\\u0000b\""),
      ("ipam", "1"), ("ipam", "{\"type\": 1}"), ("ipam", "{\"subnet\": \"\"}"),
      ("ipam", "{\"type\": \"../../bin/sh\"}"), ("ipam", "{\"type\": \"..\"}"), ("dns", "[]"),
      ("prevResult", "1"), ("runtimeConfig", "[]"), ("runtimeConfig", "{\"mac\": 1}"),
      ("runtimeConfig", "{\"ips\": [1]}"), ("runtimeConfig", "{\"ips\": \"10.0.0.1/8\"}"),
    ] {
      let error = failure { _ = try configuration("\"\(name)\": \(value)") }
      #expect(error.code == 7 && error.message.contains("\"\(name)"), "\(name): \(error.message)")
    }
    for name in ["", "\"name\": \"\",", "\"name\": 1,", "\"name\": \"a/b\","] {
      let error = failure {
        _ = try NetworkConfiguration(
          json("{\(name) \"cniVersion\": \"1.0.0\"}"), runDirectory: nil)
      }
      #expect(error.code == 7 && error.message.contains("name"), "\(error.message)")
    }
    for text in ["[]", "1", "\"x\"", "null"] {
      #expect(
        failure { _ = try NetworkConfiguration(json(text), runDirectory: nil) }.code == 6)
    }
  }

  /// What another plugin would keep tenants apart by must not be passed over.
  @Test func membersOfOtherPlugins() throws {
    for (members, instead) in [
      ("\"vlan\": 100", "tag"), ("\"vlanTrunk\": [{\"id\": 1}]", "trunk"),
      ("\"isGateway\": true", "isGateway"), ("\"ipMasq\": true", "ipMasq"),
    ] {
      let error = failure { _ = try configuration(members) }
      #expect(error.code == 2 && error.message.contains(instead), "\(error.message)")
    }
    _ = try configuration("\"ipMasq\": false, \"labels\": {}, \"capabilities\": {\"mac\": true}")
  }

  @Test func versions() throws {
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
      #expect(try configuration(version: version).version.rawValue == version)
    }
    for version in ["0.2.0", "1.2.0", "2.0.0", "", "x", "1"] {
      let error = failure { _ = try configuration(version: version) }
      #expect(error.code == 1 && error.message.contains("1.1.0"), "\(error.message)")
    }
    let error = failure {
      _ = try NetworkConfiguration(json("{\"name\": \"red\"}"), runDirectory: nil)
    }
    #expect(error.code == 1 && error.message.contains("cniVersion"))
  }

  /// The files that the README names, as a runtime hands their plugins over.
  @Test func theExamplesAreRead() throws {
    for (name, place, ipam) in [
      ("red", NetworkConfiguration.Place.network("red"), nil),
      ("red-host-local", .bridge("br0", .vni(VNI(rawValue: 100)!)), "host-local"),
    ] {
      let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appendingPathComponent("../../configs/\(name).conflist").standardized
      let list = try JSON(parsing: Array(Data(contentsOf: file)), as: "the example")
      let plugin = try #require(list["plugins"]?.arrayValue?.first)
      var members = try #require(plugin.objectValue)
      for name in ["name", "cniVersion"] { members[name] = list[name] }
      let configuration = try NetworkConfiguration(.object(members), runDirectory: nil)
      #expect(configuration.place == place && configuration.addressPlugin == ipam)
    }
  }
}
