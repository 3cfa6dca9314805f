import Foundation
import Testing

extension SystemTests {
  /// Many routes, and malicious ones, by a speaker of BGP that anybody may be.
  @Suite struct EVPNScaleTests {
    /// 10,000 routes of one tenant come and go, by bgpd, gobgpd and ovx-evpn, and another tenant
    /// notices nothing.
    @Test func tenThousandRoutesComeAndGoBesideAnotherTenant() throws {
      try Lab.run { lab in
        let fabric = try EVPNFabric(lab, count: 2, others: 1)
        let (first, second) = (fabric.hosts[0], fabric.hosts[1])
        var blue: [Namespace] = []
        for host in fabric.hosts {
          try host.place.ctl("set bridge br0 other_config:mac-table-size=20000")
          try host.place.ctl("add-net blue vni=200 subnet=10.1.0.0/24")
          let container = try lab.namespace("blue\(host.number)")
          try host.place.ctl("attach blue \(container.name) eth0 ip=\(host.inside)/24")
          blue.append(container)
        }
        try eventually("blue's containers reach each other", within: 30) {
          try blue[0].run("ping -c 1 -W 1 \(second.inside)").succeeded
        }
        let generator = try RouteGenerator(fabric)
        func told() throws -> Int {
          let text = try first.place.ctl("-f json fdb stats")
          let count = try #require(text.firstMatch(of: /"external" *: *([0-9]+)/))
          return try #require(Int(count.1))
        }
        let before = try told()
        let flow = try NumberedFlow(
          from: blue[0], to: [blue[1]], at: second.inside, port: 7001, rate: 200, seconds: 60)
        for _ in 0..<2 {
          try generator.tell("announce 100 10000")
          try eventually("10,000 routes are in force", within: 180) {
            try told() == before + 10_000
          }
          try generator.tell("withdraw")
          try eventually("they are gone", within: 180) { try told() == before }
        }
        try flow.expectNoneLost()
        try first.container.expectPing(second.inside)
      }
    }

    /// Whoever speaks BGP may say anything: what cannot be is refused, counted and named, and what
    /// is here stays here.
    @Test func whatCannotBeIsRefusedAndNamed() throws {
      try Lab.run { lab in
        let fabric = try EVPNFabric(lab, count: 2, others: 1)
        let (first, second) = (fabric.hosts[0], fabric.hosts[1])
        // Another tenant, with two containers on one host.
        try first.place.ctl("add-net blue vni=200 subnet=10.2.0.0/24")
        let blue = try lab.namespace("blue1")
        let neighbor = try lab.namespace("blue2")
        try first.place.ctl("attach blue \(blue.name) eth0 ip=10.2.0.5/24")
        try first.place.ctl("attach blue \(neighbor.name) eth0 ip=10.2.0.1/24")
        try blue.expectPing("10.2.0.1")
        let generator = try RouteGenerator(fabric)
        let evil = "192.0.2.1"
        func counted(_ reason: String) throws -> Bool {
          try first.place.ctl("-f json evpn show").contains(reason)
        }
        // Network red's target and blue's VNI; VNI 0.
        try generator.tell("route mac=02:66:00:00:00:01 vtep=\(evil) vni=200 target=100")
        try generator.tell("route mac=02:66:00:00:00:02 vtep=\(evil) vni=0 target=100")
        try eventually("they are counted") {
          try counted("the route target of a network, and another VNI") && counted("no VNI from 1")
        }
        // Next hops that no other host can have; some speakers on the way refuse one or another by
        // themselves.
        for (index, hop) in ["127.0.0.1", "224.0.0.5", "255.255.255.255", first.address]
          .enumerated()
        {
          try generator.tell("route mac=02:66:00:00:01:0\(index) vtep=\(hop) target=100")
        }
        // What is here: containers of this host and their addresses.
        let mine = try first.container.mac()
        try generator.tell(
          "route mac=\(mine) vtep=\(evil) ip=\(first.inside) sequence=900 target=100")
        let theirs = try neighbor.mac()
        try generator.tell(
          "route mac=\(theirs) vtep=\(evil) ip=10.2.0.1 sequence=900 vni=200 target=200")
        try generator.tell(
          "route mac=02:66:00:00:00:04 vtep=\(evil) ip=10.2.0.1 sequence=1 vni=200 target=200")
        try generator.tell(
          "route mac=02:66:00:00:00:05 vtep=\(evil) ip=10.2.0.9 vni=200 target=200")
        try eventually("the last of them is in force") {
          try first.place.ctl("fdb show br0").contains("02:66:00:00:00:05")
        }
        let fdb = try first.place.ctl("fdb show br0").split(separator: "\n")
        let refused = ["02:66:00:00:00:01", "02:66:00:00:00:02", "02:66:00:00:01:0"]
        #expect(!fdb.contains { line in refused.contains { line.contains($0) } }, "\(fdb)")
        #expect(!fdb.contains { $0.contains(mine) && $0.contains(evil) })
        #expect(!fdb.contains { $0.contains(theirs) && $0.contains(evil) })
        try second.container.expectPing(first.inside)
        try blue.must("ip neigh flush dev eth0")
        try blue.expectPing("10.2.0.1")
        #expect(try blue.must("ip neigh show 10.2.0.1 dev eth0").contains(theirs))
        // More than the network may have.
        try first.place.ctl("set switch . other_config:evpn-limit=50")
        try generator.tell("announce 10 200")
        try eventually("what is beyond the limit is counted") {
          try counted("beyond the limit of routes of its network")
        }
        try second.container.expectPing(first.inside)
        let log = first.agent?.standardError ?? ""
        for word in ["02:66:00:00:00:01", "and another VNI", "beyond the limit"] {
          #expect(log.contains(word), "\(log)")
        }
      }
    }
  }
}
