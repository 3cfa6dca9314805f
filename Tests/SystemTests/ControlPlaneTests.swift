import Foundation
import OVXControl
import OVXDatapath
import Testing

extension SystemTests {
  /// Networks of which an agent tells what is on other hosts; here the test is the agent.
  @Suite struct ControlPlaneTests {
    /// Two hosts that know of each other by their agents alone, each with a container of the
    /// network red.
    private struct Fabric {
      let hosts: [Namespace]
      let containers: [Namespace]
      let clients: [ControlClient]

      init(_ lab: Lab) throws {
        let (host1, host2) = try lab.twoHosts()
        hosts = [host1, host2]
        clients = hosts.map { ControlClient(runDirectory: $0.rundir) }
        var containers: [Namespace] = []
        for (index, host) in hosts.enumerated() {
          try lab.daemon(on: host)
          try host.ctl("set switch . control_plane=evpn local_ip=\(Family.ipv4.address(index + 1))")
          try host.ctl("add-net red vni=100 subnet=172.17.42.0/24,fd42::/64")
          let container = try lab.namespace("red\(index + 1)")
          containers.append(container)
          try host.ctl(
            "attach red \(container.name) eth0 ip=172.17.42.\(index + 1)/24,fd42::\(index + 1)/64")
        }
        self.containers = containers
      }

      var vteps: [IPAddress] {
        get throws {
          try (1...2).map { try #require(IPAddress(Family.ipv4.address($0))) }
        }
      }

      /// A container's Ethernet address.
      func mac(_ index: Int) throws -> MACAddress {
        try #require(MACAddress(containers[index].mac()))
      }

      @discardableResult
      func tell(
        _ index: Int, _ entries: AgentUpdate.Entries, _ phase: AgentUpdate.Phase = .change,
        hold: Int = 120
      ) throws -> [String] {
        let update = AgentUpdate(phase, hold: hold, networks: ["red": entries])
        guard
          case .names(let sentences)? = try clients[index].replies(
            to: [.agent(update)], timeout: 10
          ).first
        else { return ["no answer"] }
        return sentences
      }

      /// What host `index` is told of the other one.
      func entries(for index: Int) throws -> AgentUpdate.Entries {
        let other = 1 - index
        let mac = try mac(other)
        return AgentUpdate.Entries(
          vteps: [try vteps[other]], stations: [.init(mac: mac, vtep: try vteps[other])],
          neighbors: try ["172.17.42.\(other + 1)", "fd42::\(other + 1)"].map {
            AgentUpdate.Neighbor(ip: try #require(IPAddress($0)), mac: mac)
          })
      }

      /// What the first host sends by its tunnel meanwhile, a line each; the containers' own
      /// kernels say this and that, too.
      func sent(_ body: () throws -> Void) throws -> String {
        let capture = try hosts[0].start("exec timeout 4 ovx-ctl capture vni100")
        try eventually("it captures") { capture.standardError.contains("Ctrl-C ends it") }
        try body()
        return try capture.finish(seconds: 8).standardOutput
      }
    }

    @Test func whatIsToldIsReachedAndNothingIsFlooded() throws {
      try Lab.run { lab in
        let fabric = try Fabric(lab)
        let (red1, red2) = (fabric.containers[0], fabric.containers[1])
        try red1.expectNoPing("172.17.42.2")
        for index in 0..<2 { #expect(try fabric.tell(index, fabric.entries(for: index)) == []) }
        for address in ["172.17.42.2", "fd42::2"] { try red1.expectPing(address) }
        try red1.expectTransfer(5_000_000, to: red2, at: "172.17.42.2")
        // Whoever asks is answered by the switch, and nobody on the other host hears of it.
        for container in [red1, red2] { try container.must("ip neigh flush dev eth0") }
        let before = try fabric.hosts[1].ctl("-f json neigh stats")
        try red1.expectPing("172.17.42.2")
        try red2.expectPing("fd42::1")
        #expect(try fabric.hosts[1].ctl("-f json neigh stats") != before, "it was answered there")
        let heard = try fabric.sent {
          try red1.must("ip neigh flush dev eth0")
          try red1.expectPing("172.17.42.2")
        }
        #expect(heard.contains("172.17.42.1 > 172.17.42.2: ICMP echo request"), "\(heard)")
        #expect(!heard.contains("who-has 172.17.42.2 tell 172.17.42.1"), "\(heard)")
        // A frame for a station that nobody has told leaves by no tunnel; a broadcast does.
        try red1.must("ip neigh replace 172.17.42.99 lladdr 02:00:00:00:00:99 dev eth0")
        for (isFlooding, count) in [(false, 0), (true, 3)] {
          try fabric.hosts[0].ctl(
            "set network red other_config:evpn-flood-unknown=\(isFlooding)")
          let left = try fabric.sent {
            _ = try red1.run("ping -c 3 -i 0.1 -W 1 172.17.42.99")
          }.split(separator: "\n")
          #expect(left.filter { $0.contains("> 172.17.42.99:") }.count == count, "\(left)")
        }
      }
    }

    /// A host of which only stations are told, as one that takes broadcasts by other ways: frames
    /// to them go there, and nothing that is for all.
    @Test func whoHasNotAskedForBroadcastsGetsNone() throws {
      try Lab.run { lab in
        let fabric = try Fabric(lab)
        let red1 = fabric.containers[0]
        var entries = try fabric.entries(for: 0)
        entries.vteps = []
        #expect(try fabric.tell(0, entries) == [])
        #expect(try fabric.tell(1, fabric.entries(for: 1)) == [])
        try red1.expectPing("172.17.42.2")
        func broadcasts() throws -> String {
          try fabric.sent { _ = try red1.run("ping -b -c 3 -i 0.1 -W 1 172.17.42.255") }
        }
        #expect(try !broadcasts().contains("> 172.17.42.255:"))
        try red1.expectPing("172.17.42.2")
        #expect(
          try fabric.hosts[0].ctl("-f json get network red status:remotes").contains("1"))
        try fabric.tell(0, .init(vteps: [try fabric.vteps[1]]))
        #expect(try broadcasts().contains("> 172.17.42.255:"))
      }
    }

    @Test func aStationThatMovesHereIsHereAtOnceAndGoesBackWhenTheAgentSaysSo() throws {
      try Lab.run { lab in
        let fabric = try Fabric(lab)
        for index in 0..<2 { try fabric.tell(index, fabric.entries(for: index)) }
        try fabric.containers[0].expectPing("172.17.42.2")
        let mac = try fabric.mac(1)
        // The same station speaks by a port of the first host, which has no rule of what it may
        // send.
        let twin = try lab.vethContainer("veth1", on: fabric.hosts[0], address: "172.17.42.77/24")
        try twin.must("ip link set eth0 address \(mac)")
        try fabric.hosts[0].ctl("add-port br0 veth1 network=red port_security=false")
        try twin.expectPing("172.17.42.1")
        func place() throws -> String {
          let lines = try fabric.hosts[0].ctl("fdb show br0").split(separator: "\n")
          return String(try #require(lines.first { $0.contains("\(mac)") }))
        }
        #expect(try place().hasPrefix("veth1"))
        // Only when the agent tells of it again, knowing that, it is there again; and a sticky one
        // stays there.
        var entries = AgentUpdate.Entries()
        entries.stations = [.init(mac: mac, vtep: try fabric.vteps[1], isSticky: true)]
        try fabric.tell(0, entries)
        #expect(try place().contains("agent"))
        _ = try twin.run("ping -c 2 -i 0.1 -W 1 172.17.42.1")
        #expect(try place().contains("agent"))
        // By an operator's word it does not count.
        try fabric.hosts[0].ctl("fdb add br0 veth1 1 \(mac)")
        #expect(
          try fabric.tell(0, entries).first?.contains("1 of 1 entries are not in force") == true)
        #expect(try place().contains("static"))
      }
    }

    @Test func whatIsTornDownGoesWithTheAgentsSilence() throws {
      try Lab.run { lab in
        let fabric = try Fabric(lab)
        lab.expectLog("the agent that tells of other hosts has been silent for too long")
        try fabric.tell(0, fabric.entries(for: 0), hold: 2)
        try fabric.tell(1, fabric.entries(for: 1))
        try fabric.containers[0].expectPing("172.17.42.2")
        try eventually("the entries are gone") {
          try !fabric.hosts[0].ctl("fdb show br0").contains("agent")
        }
        #expect(try !fabric.hosts[0].ctl("tunnel show").contains("192.168.5.3"))
        // Nothing of an agent is in the file, and another daemon begins without it.
        try fabric.tell(0, fabric.entries(for: 0))
        #expect(try !fabric.hosts[0].ctl("export").contains("192.168.5.3"))
        _ = try #require(lab.daemons.first).stop(SIGKILL)
        try lab.daemon(on: fabric.hosts[0])
        #expect(try !fabric.hosts[0].ctl("fdb show br0").contains("agent"))
        try fabric.tell(0, fabric.entries(for: 0))
        try fabric.containers[0].expectPing("172.17.42.2")
      }
    }

    /// What an agent has to know: who is here, heard or attached, at once.
    @Test func stationsOfThisHostAreTold() throws {
      try Lab.run { lab in
        let fabric = try Fabric(lab)
        let mac = try fabric.mac(0)
        var watch = try fabric.clients[0].watch([.station, .neighbor])
        var rows: [String: [String: Datum]] = [:]
        func read(_ seconds: Double) throws {
          while let event = try watch.next(within: Int32(seconds * 1000)) {
            guard let record = event.record else { continue }
            rows[record] =
              event.action == .delete ? nil : (rows[record] ?? [:]).merging(event.new ?? [:]) { $1 }
          }
        }
        try read(0.5)
        #expect(rows["br0/1/\(mac)"]?["kind"] == .scalar(.text("attached")), "\(rows)")
        #expect(rows["br0/1/172.17.42.1"]?["mac"] == .scalar(.text("\(mac)")))
        #expect(rows["br0/1/fd42::1"]?["network"] == .scalar(.text("red")))
        let veth = try lab.vethContainer("veth1", on: fabric.hosts[0], address: "172.17.42.9/24")
        try fabric.hosts[0].ctl("add-port br0 veth1 network=red port_security=false")
        let other = try veth.must("cat /sys/class/net/eth0/address").trimmingCharacters(
          in: .whitespacesAndNewlines)
        try veth.expectPing("172.17.42.1")
        try read(0.5)
        #expect(rows["br0/1/\(other)"]?["kind"] == .scalar(.text("learned")), "\(rows)")
        #expect(rows["br0/1/172.17.42.9"]?["mac"] == .scalar(.text(other)))
        // What an agent tells of other hosts is not told to it, and what goes is told.
        try fabric.tell(0, fabric.entries(for: 0))
        try fabric.hosts[0].ctl("del-port veth1 -- detach \(fabric.containers[0].name) eth0")
        try read(0.5)
        #expect(rows.keys.filter { $0.hasPrefix("br0/1/") } == [], "\(rows)")
      }
    }

    @Test func whatIsWrongIsRefusedInWords() throws {
      try Lab.run { lab in
        let fabric = try Fabric(lab)
        let host = fabric.hosts[0]
        for (line, sentence) in [
          ("clear switch . local_ip", "control_plane=evpn needs the address"),
          ("set switch . control_plane=bgp", "bgp"),
          ("set switch . other_config:evpn-hold=soon", "neither \"inf\" nor a number of seconds"),
          (
            "set switch . other_config:evpn-limit=0", "is not a number of routes from 1 to 16777216"
          ),
          ("set network red other_config:route-target=red", "is not AS:NUMBER"),
          ("set network red other_config:evpn-flood-unknown=1", "is not one of true and false"),
          (
            "add-port br0 vx0 type=vxlan key=7 remote=evpn local=192.168.5.2",
            "is for the tunnels that networks have"
          ),
        ] {
          let output = try host.ctl(line.split(separator: " ").map(String.init))
          #expect(
            output.status == 1 && output.standardError.contains(sentence), "\(line): \(output)")
        }
        let mac = try fabric.mac(1)
        for (entries, sentence) in [
          (AgentUpdate.Entries(vteps: [IPAddress(v4: 0)]), "is no host's address"),
          (
            AgentUpdate.Entries(stations: [.init(mac: .broadcast, vtep: try fabric.vteps[1])]),
            "is no station's address"
          ),
          (
            AgentUpdate.Entries(neighbors: [.init(ip: IPAddress(v4: 0xE000_0001), mac: mac)]),
            "is no station's address"
          ),
        ] {
          #expect(throws: ControlError.self, "\(sentence)") { try fabric.tell(0, entries) }
        }
        #expect(throws: ControlError.self) { try fabric.tell(0, .init(), hold: -1) }
      }
    }
  }
}
