import Foundation
import Glibc
import Testing

extension SystemTests {
  /// ovx-cni, called as a container runtime calls it.
  @Suite struct CNITests {
    /// A host with a daemon and a bridge, and containers without an interface.
    private func scene(
      _ lab: Lab, _ count: Int = 2
    ) throws -> (runtime: Runtime, containers: [Namespace]) {
      let host = try lab.namespace("host1")
      try lab.daemon(on: host)
      try host.ctl("add-br br0")
      let containers = try (0..<count).map { try lab.namespace("c\($0)") }
      return (Runtime(lab: lab, host: host), containers)
    }

    @Test func fromAddToDelete() throws {
      try Lab.run { lab in
        let (runtime, containers) = try scene(lab)
        let red = runtime.configuration("\"tag\": 100, \"mtu\": 1400", ipam: true)
        let results = try containers.map { try runtime.must("ADD", $0, red) }
        #expect(results.map(\.addresses) == [["172.17.42.2/24"], ["172.17.42.3/24"]])
        let interface = results[1].interfaces.first ?? [:]
        let container = containers[1]
        #expect(interface["name"] as? String == "eth0" && interface["mtu"] as? Int == 1400)
        #expect(interface["sandbox"] as? String == "/run/netns/\(container.name)")
        let mac = interface["mac"] as? String ?? ""
        #expect(try container.must("cat /sys/class/net/eth0/address").contains(mac))
        try containers[0].expectPing("172.17.42.3")

        // The default route is the daemon's affair, others are the plugin's.
        let routes = try container.must("ip route")
        #expect(routes.contains("default via 172.17.42.1 dev eth0"), "\(routes)")
        #expect(routes.contains("10.9.0.0/16 via 172.17.42.2 dev eth0"), "\(routes)")
        let port = try #require(try runtime.ports().first { $0.contains("-c1") })
        let ids = try runtime.host.ctl("get port \(port) external_ids tag")
        #expect(ids.contains("cni-container=\(container.name)"), "\(ids)")
        #expect(ids.contains("cni-network=red") && ids.contains("cni-ifname=eth0"), "\(ids)")
        #expect(!ids.contains("pending") && ids.contains("100"), "\(ids)")

        try runtime.must("CHECK", container, withResult(results[1], red))
        for _ in 0..<2 { try runtime.must("DEL", container, withResult(results[1], red)) }
        #expect(try !container.must("ip -br link").contains("eth0"))
        #expect(runtime.leased() == ["172.17.42.2"])
        let gone = try runtime.call("CHECK", container, withResult(results[1], red))
        #expect(gone.code == 3, "\(gone.text)")

        // Without a namespace, and with one that is gone.
        let outcome = try runtime.finish(
          runtime.start("DEL", containers[0].name, in: "", as: "eth0", red))
        #expect(outcome.output.succeeded && outcome.text.isEmpty, "\(outcome.text)")
        try runtime.expectNothing(of: containers)
        let lost = try lab.namespace("lost")
        try runtime.must("ADD", lost, red)
        #expect(try Command(["ip", "netns", "del", lost.name]).finish(seconds: 5).succeeded)
        lab.expectLog("waits")
        try runtime.must("DEL", lost, red)
        try runtime.expectNothing(of: containers)
      }
    }

    /// Each version of the specification has its own shape of the result.
    @Test(arguments: ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
    func versions(_ version: String) throws {
      try Lab.run { lab in
        let (runtime, containers) = try scene(lab, 1)
        let red = runtime.configuration(version: version, ipam: true)
        let result = try runtime.must("ADD", containers[0], red)
        #expect(result.json["cniVersion"] as? String == version)
        let ip = try #require((result.json["ips"] as? [[String: Any]])?.first)
        #expect((ip["version"] as? String == "4") == (version < "1.0.0"))
        #expect((result.interfaces.first?["mtu"] != nil) == (version == "1.1.0"))
        if version != "0.3.1" {
          try runtime.must("CHECK", containers[0], withResult(result, red))
        }
        try runtime.must("DEL", containers[0], red)
        try runtime.expectNothing(of: containers)
      }
    }

    @Test func addressesAskedFor() throws {
      try Lab.run { lab in
        let (runtime, containers) = try scene(lab)
        let red = runtime.configuration()
        let arguments = "IgnoreUnknown=1;X=y;MAC=02:00:00:00:00:11;IP=172.17.42.11/24"
        let first = try runtime.must("ADD", containers[0], arguments: arguments, red)
        #expect(first.interfaces.first?["mac"] as? String == "02:00:00:00:00:11")
        let asking = runtime.configuration(
          """
          "capabilities": {"mac": true, "ips": true},
          "runtimeConfig": {"mac": "02:00:00:00:00:12", "ips": ["172.17.42.12/24", "fd42::12/64"]}
          """)
        let second = try runtime.must("ADD", containers[1], arguments: arguments, asking)
        #expect(second.addresses == ["172.17.42.12/24", "fd42::12/64"])
        #expect(second.interfaces.first?["mac"] as? String == "02:00:00:00:00:12")
        try containers[0].expectPing("172.17.42.12")
        try runtime.must("CHECK", containers[1], withResult(second, asking))
        for bad in ["IP=172.17.42.13", "IP=x/24", "MAC=x"] {
          let refused = try runtime.call("ADD", containers[0], as: "eth1", arguments: bad, red)
          #expect(refused.code == 4 && refused.message.contains("CNI_ARGS"), "\(refused.text)")
        }
      }
    }

    @Test func chained() throws {
      try Lab.run { lab in
        let (runtime, containers) = try scene(lab, 1)
        let before = """
          {"cniVersion": "1.0.0", "interfaces": [{"name": "lan0"}, {"name": "eth7", "sandbox": "/x"}],
           "ips": [{"address": "10.1.0.5/24", "interface": 1}], "dns": {"domain": "example"}}
          """
        let red = runtime.configuration("\"prevResult\": \(before)", version: "1.0.0", ipam: true)
        let result = try runtime.must("ADD", containers[0], red)
        #expect(result.interfaces.map { $0["name"] as? String } == ["lan0", "eth7", "eth0"])
        let places = (result.json["ips"] as? [[String: Any]])?.map { $0["interface"] as? Int }
        #expect(places == [1, 2])
        #expect((result.json["dns"] as? [String: Any])?["domain"] as? String == "example")
        // An interface of another network finds a default route, which stays.
        let blue = runtime.configuration(name: "blue", ipam: true)
        try runtime.must("ADD", containers[0], as: "eth1", blue)
        let routes = try containers[0].must("ip route")
        #expect(routes.components(separatedBy: "default").count == 2, "\(routes)")
        try runtime.must("DEL", containers[0], as: "eth1", blue)
        #expect(try runtime.ports().count == 1)
      }
    }

    @Test func refusals() throws {
      try Lab.run { lab in
        let (runtime, containers) = try scene(lab, 1)
        let container = containers[0]
        let red = runtime.configuration(ipam: true)
        func expect(
          _ code: Int, _ words: String, _ outcome: Runtime.Outcome,
          sourceLocation: SourceLocation = #_sourceLocation
        ) throws {
          #expect(
            outcome.code == code && outcome.message.contains(words), "\(outcome.text)",
            sourceLocation: sourceLocation)
          try runtime.expectNothing(of: containers, sourceLocation: sourceLocation)
        }
        let missing = Namespace(name: "ovxt-missing", rundir: "")
        try expect(3, "/run/netns/ovxt-missing", try runtime.call("ADD", missing, red))
        let file = try runtime.finish(runtime.start("ADD", "c", in: "/etc/hosts", as: "eth0", red))
        try expect(4, "/etc/hosts", file)
        try expect(
          100, "no bridge named br9",
          try runtime.call(
            "ADD", container, runtime.configuration("\"bridge\": \"br9\"", ipam: true)))
        try expect(
          7, "VNI 77",
          try runtime.call("ADD", container, runtime.configuration("\"vni\": 77", ipam: true)))
        try container.must("ip link add red0 type veth peer name red1")
        let taken = try runtime.call("ADD", container, as: "red0", red)
        try expect(101, "red0", taken)
        #expect(try container.must("ip -br link").contains("red0"))

        // A second ADD does not touch what the first has made.
        try runtime.must("ADD", container, red)
        #expect(try runtime.call("ADD", container, red).code == 101)
        #expect(try runtime.ports().count == 1 && runtime.leased().count == 1)
        try runtime.must("DEL", container, red)
        try runtime.expectNothing(of: containers)
      }
    }

    /// Whatever an IPAM plugin does, nothing is left behind.
    @Test func addressPlugins() throws {
      try Lab.run { lab in
        let (runtime, containers) = try scene(lab, 1)
        let directory = lab.directory.appendingPathComponent("bin").path
        try FileManager.default.createDirectory(
          atPath: directory, withIntermediateDirectories: true)
        /// A plugin that is a script, which notes its calls.
        func plugin(_ script: String) throws {
          let text = "#!/bin/sh\necho \"$CNI_COMMAND\" >> \(directory)/calls\n\(script)\n"
          let made = try Command([
            "sh", "-c",
            "rm -f \"$2/calls\"; printf '%s' \"$1\" > \"$2/fake\"; chmod 755 \"$2/fake\"",
            "sh", text, directory,
          ]).finish(seconds: 5)
          #expect(made.succeeded)
        }
        func calls() -> [Substring] {
          ((try? String(contentsOfFile: directory + "/calls", encoding: .utf8)) ?? "")
            .split(separator: "\n")
        }
        let red = runtime.configuration("\"ipam\": {\"type\": \"fake\"}", version: "1.0.0")
        func add() throws -> Runtime.Outcome {
          try runtime.call("ADD", containers[0], path: directory, red)
        }
        let result = "{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"172.17.42.9/24\"}]"
        for (script, code, word) in [
          ("echo '{\"code\": 123, \"msg\": \"all \\u0007 gone\"}'; exit 1", 123, "all ? gone"),
          ("exit 3", 100, "status 3"), ("kill -9 $$", 100, "status 137"),
          ("echo nonsense", 6, "fake"), ("echo '{}'", 100, "no address"),
          ("head -c 3000000 /dev/zero", 5, "1048576"),
          ("echo '\(result),\"routes\":[{\"dst\":\"x\"}]}'", 6, "route"),
          // The kernel refuses a route whose gateway is nobody's neighbor, after the interface has
          // been made.
          (
            "echo '\(result),\"routes\":[{\"dst\":\"10.0.0.0/8\",\"gw\":\"10.0.0.1\"}]}'", 100,
            "10.0.0.0/8"
          ),
          ("echo '{\"ips\":[{\"address\":\"224.0.0.1/24\"}]}'", 100, "224.0.0.1"),
        ] {
          try plugin("[ $CNI_COMMAND = ADD ] || exit 0\n" + script)
          let outcome = try add()
          #expect(
            outcome.code == code && outcome.message.contains(word), "\(script): \(outcome.text)")
          #expect(calls().last == "DEL", "\(script): \(calls())")
          try runtime.expectNothing(of: containers)
        }
        // One that reads nothing of what it is sent is answered for, too.
        try plugin("exec 0<&-; echo '\(result)}'")
        let fine = try add()
        #expect(fine.addresses == ["172.17.42.9/24"], "\(fine.text)")
        let refused = try runtime.call("DEL", containers[0], path: "/nonexistent", red)
        #expect(refused.code == 7 && refused.message.contains("fake"), "\(refused.text)")
        #expect(try runtime.call("DEL", containers[0], path: directory, red).output.succeeded)
        try runtime.expectNothing(of: containers)
      }
    }

    @Test func aVNIFindsItsVLAN() throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        var containers: [Namespace] = []
        for (number, host) in [host1, host2].enumerated() {
          try lab.daemon(on: host)
          try host.ctl("add-br br0")
          let remote = Family.ipv4.address(2 - number)
          for vni in [100, 200] {
            // The VLANs are the host's own affair.
            try host.ctl("add-port br0 vxlan\(vni) tag=\(vni + number) key=\(vni) remote=\(remote)")
          }
          let container = try lab.namespace("c\(number)")
          let runtime = Runtime(lab: lab, host: host)
          let red = runtime.configuration("\"vni\": 200")
          let result = try runtime.must(
            "ADD", container, arguments: "IP=172.17.42.1\(number)/24", red)
          #expect(result.interfaces.first?["mtu"] as? Int == 1450)
          let wrong = try runtime.call(
            "ADD", container, as: "eth1", runtime.configuration("\"vni\": 9"))
          #expect(wrong.code == 7 && wrong.message.contains("no tunnel of VNI 9"), "\(wrong.text)")
          let unsaid = try runtime.call("ADD", container, as: "eth1", runtime.configuration())
          #expect(unsaid.code == 100 && unsaid.message.contains("VLAN"), "\(unsaid.text)")
          containers.append(container)
        }
        try containers[0].expectPing("172.17.42.11")
        #expect(try host2.ctl("get port eth0@\(containers[1].name) tag") == "201\n")
        try host1.ctl("add-port br0 vxlan300 trunks=300,301 key=300 remote=192.168.5.9")
        let runtime = Runtime(lab: lab, host: host1)
        let trunk = try runtime.call(
          "ADD", containers[0], as: "eth1", runtime.configuration("\"vni\": 300"))
        #expect(trunk.code == 7 && trunk.message.contains("300, 301"), "\(trunk.text)")
        let tags = runtime.configuration("\"trunk\": [300, {\"minID\": 400, \"maxID\": 401}]")
        try runtime.must("ADD", containers[0], as: "eth1", tags)
        let port = try #require(try runtime.ports().first { $0.hasPrefix("eth1@") })
        #expect(try host1.ctl("get port \(port) trunks") == "[300, 400, 401]\n")
      }
    }

    /// A network chooses everything, and the addresses that are asked for need no prefix.
    @Test func networks() throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        var containers: [Namespace] = []
        for (number, host) in [(1, host1), (2, host2)] {
          try lab.daemon(on: host)
          try host.ctl(
            "set switch . local_ip=\(Family.ipv4.address(number)) remotes=\(Family.ipv4.address(3 - number))"
          )
          try host.ctl(
            "add-net green vni=300 subnet=10.3.0.0/24,fd03::/64 range=10.3.0.\(number)6/31,fd03::\(number)0/124 gateway=10.3.0.1"
          )
          let runtime = Runtime(lab: lab, host: host)
          let green = runtime.configuration("\"network\": \"green\"", name: "web")
          let container = try lab.namespace("c\(number)")
          let result = try runtime.must("ADD", container, green)
          #expect(result.addresses == ["10.3.0.\(number)6/24", "fd03::\(number)0/64"])
          #expect(result.interfaces.first?["mtu"] as? Int == 1450)
          let routes = result.json["routes"] as? [[String: Any]]
          #expect(routes?.first?["gw"] as? String == "10.3.0.1", "\(result.text)")
          #expect(try container.must("ip route").contains("default via 10.3.0.1"))
          try runtime.must("CHECK", container, withResult(result, green))
          containers.append(container)
        }
        try containers[0].expectPing("10.3.0.26")
        try containers[0].expectPing("fd03::20")

        let runtime = Runtime(lab: lab, host: host1)
        let green = runtime.configuration("\"network\": \"green\"", name: "web")
        // Of two networks with a gateway that of the first counts, and the other's when it has
        // gone.
        try host1.ctl("add-net lilac vni=900 subnet=10.9.0.0/24 gateway=10.9.0.1")
        let lilac = runtime.configuration("\"network\": \"lilac\"", name: "lilac")
        let both = try lab.namespace("both")
        try runtime.must("ADD", both, green)
        let second = try runtime.must("ADD", both, as: "eth1", lilac)
        #expect(try both.must("ip route get 198.51.100.1").contains("via 10.3.0.1"))
        try runtime.must("CHECK", both, as: "eth1", withResult(second, lilac))
        try runtime.must("DEL", both, green)
        #expect(try both.must("ip route get 198.51.100.1").contains("via 10.9.0.1"))
        try runtime.must("DEL", both, as: "eth1", lilac)
        let other = try lab.namespace("other")
        let asked = try runtime.must("ADD", other, arguments: "IP=10.3.0.99", green)
        #expect(asked.addresses.first == "10.3.0.99/24", "\(asked.text)")
        try runtime.must("DEL", other, green)
        for (ip, code) in [("10.3.0.26/24", 100), ("10.4.0.1", 4)] {
          let refused = try runtime.call("ADD", other, arguments: "IP=\(ip)", green)
          #expect(refused.code == code && refused.message.contains("10."), "\(refused.text)")
        }
        // A bridge is no network, whose name would stand for all of its VLANs.
        let bridge = runtime.configuration("\"network\": \"br0\"")
        #expect(try runtime.call("ADD", other, bridge).code == 7)
        // The range has two addresses.
        #expect(try runtime.call("STATUS", green).output.succeeded)
        let fourOnly = runtime.configuration("\"network\": \"four\"", name: "four")
        try host1.ctl("add-net four vni=400 subnet=10.4.0.0/24 range=10.4.0.10/32")
        try runtime.must("ADD", other, fourOnly)
        let full = try runtime.call("STATUS", fourOnly)
        #expect(full.code == 50 && full.message.contains("no free address"), "\(full.text)")
        let third = try runtime.call("ADD", containers[0], as: "eth1", fourOnly)
        #expect(third.code == 100 && third.message.contains("no free address"), "\(third.text)")
        for container in [containers[0], other] {
          try runtime.must("DEL", container, green)
          try runtime.must("DEL", container, fourOnly)
        }
        #expect(try runtime.ports() == [])
        try host1.ctl("del-net green")
      }
    }

    /// containerd names the namespace by a process, and has lost it when it calls DEL.
    @Test func namespacesOfProcesses() throws {
      try Lab.run { lab in
        lab.expectLog("waits")
        let (runtime, containers) = try scene(lab, 1)
        let process = try containers[0].start("exec sleep 1000")
        defer { process.signal(SIGKILL) }
        let red = runtime.configuration(ipam: true)
        let path = "/proc/\(process.pid)/ns/net"
        try eventually("it is inside") {
          try FileManager.default.destinationOfSymbolicLink(atPath: path)
            != FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/ns/net")
        }
        let added = try runtime.finish(
          runtime.start("ADD", "c1", in: path, as: "eth0", red))
        #expect(added.output.succeeded, "\(added.text)")
        #expect(try containers[0].must("ip -br addr").contains("172.17.42.2/24"))
        process.signal(SIGKILL)
        _ = process.wait(seconds: 5)
        let deleted = try runtime.finish(runtime.start("DEL", "c1", in: "", as: "eth0", red))
        #expect(deleted.output.succeeded && deleted.text.isEmpty, "\(deleted.text)")
        #expect(try runtime.ports() == [] && runtime.leased() == [])
      }
    }
  }
}
