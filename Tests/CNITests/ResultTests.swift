import OVXControl
import OVXDatapath
import Testing

@testable import ovx_cni

@Suite struct ResultTests {
  private let handedOut = """
    {"cniVersion": "1.1.0",
     "ips": [{"address": "10.0.0.5/24", "gateway": "10.0.0.1"}, {"address": "fd00::5/64"}],
     "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.0.0.2", "mtu": 1300, "table": 7}],
     "dns": {"nameservers": ["10.0.0.1"]}}
    """

  private func result() throws -> AddResult {
    AddResult(
      interface: "eth0", sandbox: "/run/netns/c1", mac: MACAddress("02:00:00:00:00:01"), mtu: 1450,
      addresses: try AddressResult(json(handedOut), of: "a test"))
  }

  @Test func shapesByVersion() throws {
    #expect(
      try result().json(.v110)
        == json(
          """
          {"cniVersion": "1.1.0",
           "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01", "mtu": 1450, "sandbox": "/run/netns/c1"}],
           "ips": [{"address": "10.0.0.5/24", "gateway": "10.0.0.1", "interface": 0},
                   {"address": "fd00::5/64", "interface": 0}],
           "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.0.0.2", "mtu": 1300, "table": 7}],
           "dns": {"nameservers": ["10.0.0.1"]}}
          """))
    #expect(
      try result().json(.v100)
        == json(
          """
          {"cniVersion": "1.0.0",
           "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/c1"}],
           "ips": [{"address": "10.0.0.5/24", "gateway": "10.0.0.1", "interface": 0},
                   {"address": "fd00::5/64", "interface": 0}],
           "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.0.0.2"}],
           "dns": {"nameservers": ["10.0.0.1"]}}
          """))
    for version in [SpecificationVersion.v031, .v040] {
      let old = try result().json(version)
      #expect(old["ips"]?.arrayValue?.map { $0["version"]?.textValue } == ["4", "6"])
      #expect(old["cniVersion"]?.textValue == version.rawValue)
    }
  }

  @Test func whatCameBeforeStays() throws {
    let previous = json(
      """
      {"cniVersion": "1.0.0", "interfaces": [{"name": "lan0", "x": 1}, {"name": "eth9", "sandbox": "/s"}],
       "ips": [{"address": "10.1.0.5/24", "interface": 1}], "routes": [{"dst": "10.1.0.0/16"}],
       "dns": {"domain": "example"}, "other": [1.5, null, true]}
      """)
    let chained = try result().json(.v100, behind: previous)
    #expect(chained["interfaces"]?.arrayValue?.count == 3)
    #expect(chained["interfaces"]?.arrayValue?[0] == json("{\"name\": \"lan0\", \"x\": 1}"))
    #expect(chained["ips"]?.arrayValue?.map { $0["interface"]?.integerValue } == [1, 2, 2])
    #expect(chained["routes"]?.arrayValue?.count == 3)
    #expect(chained["other"] == previous["other"])
    #expect(chained["dns"]?["nameservers"] != nil)
    // The plugin's own silence does not take away what was said before.
    let silent = AddResult(
      interface: "eth0", sandbox: "/s", addresses: AddressResult()
    ).json(.v100, behind: previous)
    #expect(silent["dns"] == previous["dns"])
  }

  @Test func gatewaysOfRoutes() throws {
    let result = try AddressResult(json(handedOut), of: "a test")
    #expect(result.resolvedRoutes[0].gateway == IPAddress("10.0.0.1"))
    #expect(result.resolvedRoutes[1].gateway == IPAddress("10.0.0.2"))
    let link = try AddressResult(
      json(
        """
        {"ips": [{"address": "10.0.0.5/24", "gateway": "10.0.0.1"}],
         "routes": [{"dst": "10.8.0.0/16", "scope": 253}, {"dst": "::/0"}]}
        """), of: "a test")
    #expect(link.resolvedRoutes.map(\.gateway) == [nil, nil])
  }

  /// Another plugin's answer may be anything.
  @Test func hostileAnswers() {
    for text in [
      "[]", "1", "{\"ips\": 1}", "{\"ips\": [1]}", "{\"ips\": [{\"address\": \"10.0.0.5\"}]}",
      "{\"ips\": [{\"address\": \"10.0.0.5/33\"}]}", "{\"ips\": [{\"address\": \"fd00::/129\"}]}",
      "{\"ips\": [{\"address\": \"10.0.0.5/24\", \"gateway\": \"x\"}]}", "{\"routes\": {}}",
      "{\"routes\": [{}]}", "{\"routes\": [{\"dst\": \"10.0.0.0/8\", \"mtu\": -1}]}",
      "{\"routes\": [{\"dst\": \"10.0.0.0/8\", \"table\": 1e30}]}",
    ] {
      let error = failure { _ = try AddressResult(json(text), of: "the IPAM plugin x") }
      #expect(error.code == 6 && error.message.contains("the IPAM plugin x"), "\(error.message)")
    }
  }

  @Test func whatCheckExpects() throws {
    let printed = try result().json(.v110, behind: json("{\"interfaces\": [{\"name\": \"eth0\"}]}"))
    let expected = try ExpectedInterface("eth0", in: printed)
    #expect(expected.mac == MACAddress("02:00:00:00:00:01") && expected.mtu == 1450)
    #expect(expected.addresses.addresses.count == 2 && expected.addresses.routes.count == 2)
    #expect(failure { _ = try ExpectedInterface("eth1", in: printed) }.code == 7)
    #expect(failure { _ = try ExpectedInterface("eth0", in: json("{}")) }.code == 7)
  }
}
