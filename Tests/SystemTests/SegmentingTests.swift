import Foundation
import Testing

/// What a container's device cannot do by itself with what the switch sends to it.
enum Shortage: String, CaseIterable, CustomTestStringConvertible {
  case none, tso, tso6, ecn, udp, checksum, scatterGather, everything, shortSuperframes

  var testDescription: String { rawValue }

  /// The command that makes it so, on the host's end of a veth.
  func command(for device: String) -> String {
    let features: String? =
      switch self {
      case .none, .shortSuperframes: nil
      case .tso: "tso off"
      case .tso6: "tx-tcp6-segmentation off"
      case .ecn: "tx-tcp-ecn-segmentation off"
      case .udp: "tx-udp-segmentation off"
      case .checksum: "tx off"
      case .scatterGather: "sg off"
      case .everything: "tx off sg off tso off gso off tx-udp-segmentation off"
      }
    if let features { return "ethtool -K \(device) \(features)" }
    return self == .none
      ? "true" : "ip link set \(device) gso_max_size 20000"
  }
}

extension SystemTests {
  /// Superframes reach devices that cannot segment: the switch does it for them, and loses nothing.
  @Suite struct SegmentingTests {
    @Test(arguments: Shortage.allCases)
    func toAContainer(_ shortage: Shortage) throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        try lab.overlay(on: host1, remotes: [2])
        try lab.overlay(on: host2, remotes: [1])
        let web = try lab.container("web", on: host1, by: .veth, address: "172.17.42.1/24")
        let near = try lab.container("near", on: host1, by: .tap, address: "172.17.42.2/24")
        let far = try lab.container("far", on: host2, by: .veth, address: "172.17.42.3/24")
        for (number, container) in [(1, web), (2, near), (3, far)] {
          try container.must("ip addr add fd42::\(number)/64 dev eth0 nodad")
        }
        // Features are heard of while the port is in service. Another gso_max_size the kernel does
        // not announce: see `superframesThatBecomeTooLong`.
        let isFromTheBeginning = shortage == .everything || shortage == .shortSuperframes
        if isFromTheBeginning { try host1.ctl("del-port web") }
        try host1.must(shortage.command(for: "web"))
        if isFromTheBeginning { try host1.ctl("add-port br0 web") }
        try host1.ctl("tunnel show")

        for sender in [near, far] {
          for address in ["172.17.42.1", "fd42::1"] {
            try sender.expectTransfer(1_000_000, to: web, at: address, seconds: 20)
          }
        }
        try near.expectDatagrams(to: web, at: "172.17.42.1")
        try far.expectDatagrams(to: web, at: "fd42::1")
        try web.expectTransfer(1_000_000, to: far, at: "172.17.42.3", seconds: 20)
        try host1.expectNoFullDevice()
      }
    }

    /// A device that comes to take smaller superframes only, of which the kernel announces nothing.
    @Test func superframesThatBecomeTooLong() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host")
        try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let web = try lab.container("web", on: host, by: .veth, address: "172.17.42.1/24")
        let near = try lab.container("near", on: host, by: .tap, address: "172.17.42.2/24")
        func refused() throws -> Int {
          let statistics = try host.ctl("-f json stats web")
          return statistics.firstMatch(of: /"device-full" *: *(\d+)/).flatMap { Int($0.1) } ?? 0
        }
        try near.expectTransfer(4_000_000, to: web, at: "172.17.42.1", seconds: 20)
        #expect(try refused() == 0)
        for size in [20_000, 10_000] {
          try host.must("ip link set web gso_max_size \(size)")
          // The first that is lost tells.
          try near.expectTransfer(4_000_000, to: web, at: "172.17.42.1", seconds: 20)
          let lost = try refused()
          try near.expectTransfer(4_000_000, to: web, at: "172.17.42.1", seconds: 20)
          #expect(try refused() == lost)
        }
      }
    }

    /// A virtual machine whose card has negotiated no offloads.
    @Test func toATAPOfSomebodyElse() throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        try lab.overlay(on: host1, remotes: [2])
        try lab.overlay(on: host2, remotes: [1])
        let machine = try lab.namespace("machine")
        let card = try host1.start(
          "exec python3 $TRAFFIC/plain_tap.py vm0 \(machine.name) eth0")
        defer { card.signal(SIGKILL) }
        try eventually("the card is there") { card.standardError.contains("ready") }
        try host1.must("ip link set vm0 mtu 1450 up")
        try machine.must(
          """
          ip link set eth0 mtu 1450 up
          ip addr add 172.17.42.1/24 dev eth0 && ip addr add fd42::1/64 dev eth0 nodad
          """)
        try host1.ctl("add-port br0 vm0")
        let near = try lab.container("near", on: host1, by: .tap, address: "172.17.42.2/24")
        let far = try lab.container("far", on: host2, by: .veth, address: "172.17.42.3/24")
        try near.must("ip addr add fd42::2/64 dev eth0 nodad")
        try far.must("ip addr add fd42::3/64 dev eth0 nodad")
        for sender in [near, far] {
          for address in ["172.17.42.1", "fd42::1"] {
            try sender.expectPing(address)
            try sender.expectTransfer(2_000_000, to: machine, at: address, seconds: 20)
          }
        }
        try machine.expectTransfer(1_000_000, to: far, at: "172.17.42.3", seconds: 20)
        // Before the card goes, which would be worth a warning.
        try host1.ctl("del-port vm0")
      }
    }

    /// Behind a trunk every superframe has a tag.
    @Test(arguments: [Shortage.none, .udp, .everything, .shortSuperframes])
    func toATrunk(_ shortage: Shortage) throws {
      try Lab.run { lab in
        let host = try lab.namespace("host")
        try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let sender = try lab.container(
          "sender", on: host, by: .tap, address: "172.17.42.2/24", tag: 10)
        let trunk = try lab.vethContainer("trunk", on: host, address: "10.0.0.1/24")
        try host.must(shortage.command(for: "trunk"))
        try host.ctl("add-port br0 trunk")
        try sender.must(
          """
          ip addr add fd42::2/64 dev eth0 nodad
          ip neigh add 172.17.42.9 lladdr 02:00:00:00:00:09 dev eth0
          ip neigh add fd42::9 lladdr 02:00:00:00:00:09 dev eth0
          """)
        for address in ["172.17.42.9", "fd42::9"] {
          let receiver = try trunk.start(
            "exec python3 $TRAFFIC/tagged_datagrams.py receive eth0")
          try eventually("the trunk is listened to") {
            receiver.standardError.contains("ready")
          }
          try sender.must("python3 $TRAFFIC/tagged_datagrams.py send \(address) 50")
          usleep(200_000)
          receiver.signal(SIGTERM)
          let received = try receiver.finish(seconds: 10)
          #expect(received.standardOutput == "1500000\n", "\(address): \(received)")
        }
        try host.expectNoFullDevice()
      }
    }

    /// Features come and go under traffic: what is lost while the news travels is sent again.
    @Test func changedUnderTraffic() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host")
        try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let near = try lab.container("near", on: host, by: .tap, address: "172.17.42.2/24")
        let web = try lab.container("web", on: host, by: .veth, address: "172.17.42.1/24")
        let toggling = try host.start(
          """
          for round in 1 2 3 4 5; do
            for state in off on; do
              sleep 0.3
              ethtool -K web tso $state
            done
          done
          """)
        for _ in 0..<4 {
          try near.expectTransfer(20_000_000, to: web, at: "172.17.42.1", seconds: 30)
        }
        #expect(try toggling.finish(seconds: 30).succeeded)
        // Whatever happened meanwhile: as it is now, nothing is lost.
        try host.must("ethtool -K web tso off")
        try host.ctl("tunnel show")
        let before = try host.ctl("drops")
        try near.expectTransfer(5_000_000, to: web, at: "172.17.42.1", seconds: 20)
        #expect(try host.ctl("drops") == before)
      }
    }
  }
}

extension Namespace {
  fileprivate func expectNoFullDevice(
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let drops = try ctl("drops")
    #expect(!drops.contains("device-full"), "\(drops)", sourceLocation: sourceLocation)
  }
}
