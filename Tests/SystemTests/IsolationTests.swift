import Foundation
import Testing

/// Who sent a frame, and with which tag it was sent.
struct Mark: Hashable {
  var origin: String
  var tag: Int?
}

/// Listens in a container for frames that flood.py or its like has marked.
struct Sniffer {
  private let process: Command

  init(in container: Namespace) throws {
    let process = try container.start("exec python3 $TRAFFIC/sniff.py eth0")
    try eventually("a sniffer listens in \(container.name)") {
      guard process.isRunning else { throw LabError(process.standardError) }
      return process.standardError.contains("ready")
    }
    self.process = process
  }

  /// Ends it and tells how many frames of each mark it has heard; throws if it has missed any.
  func stop() throws -> [Mark: Int] {
    process.signal(SIGTERM)
    let output = try process.finish(seconds: 10)
    guard output.succeeded else {
      throw LabError(
        "A sniffer missed frames or failed (\(output.status)): \(output.standardError)"
      )
    }
    var heard: [Mark: Int] = [:]
    for line in output.standardOutput.split(separator: "\n") {
      let words = line.split(separator: " ")
      heard[Mark(origin: String(words[0]), tag: Int(words[1]))] = Int(words[2])
    }
    return heard
  }
}

extension SystemTests {
  /// No frame reaches a container that its tenant's segments do not hold.
  @Suite struct IsolationTests {
    /// A broadcast domain: a VLAN of a bridge, 0 for the untagged one.
    struct Segment: Hashable {
      var bridge: String
      var vlan: Int
    }

    /// A container and the segments that it may send to and hear, by the tag its frames carry.
    struct Member {
      var name: String
      var host: Int
      var attachment: Attachment
      var segments: [Int?: Segment]
    }

    /// Segments that a tunnel joins across the hosts, by VNI; all others end at their host.
    static let tunnels: [(vni: Int, bridge: String, vlans: [Int])] = [
      (100, "br0", [10, 20]), (200, "br0", [30]), (200, "br0", [40]), (300, "br1", [10]),
    ]

    static func isStretched(_ segment: Segment) -> Bool {
      tunnels.contains { $0.bridge == segment.bridge && $0.vlans.contains(segment.vlan) }
    }

    static func members(of host: Int) -> [Member] {
      func access(_ bridge: String, _ vlan: Int, _ attachment: Attachment) -> Member {
        Member(
          name: "\(bridge)v\(vlan)h\(host)",
          host: host,
          attachment: attachment,
          segments: [nil: Segment(bridge: bridge, vlan: vlan)]
        )
      }
      return [
        access("br0", 10, .veth), access("br0", 20, .tap), access("br0", 30, .attachedVeth),
        access("br0", 40, .veth), access("br0", 50, .tap), access("br0", 0, .veth),
        access("br1", 10, .tap), access("br1", 20, .veth),
        Member(
          name: "trunkh\(host)",
          host: host,
          attachment: .veth,
          segments: [10: Segment(bridge: "br0", vlan: 10), 30: Segment(bridge: "br0", vlan: 30)]
        ),
      ]
    }

    @Test func noFrameLeaksBetweenSegments() throws {
      let seed =
        ProcessInfo.processInfo.environment["OVX_SEED"].flatMap { Int($0) }
        ?? Int.random(in: 0..<1_000_000)
      print("isolation: OVX_SEED=\(seed)")
      try Lab.run { lab in
        // The same addresses are sent from everywhere.
        lab.expectLog("keeps moving between port")
        let (host1, host2) = try lab.twoHosts()
        let hosts = [host1, host2]
        for (number, host) in hosts.enumerated() {
          try lab.daemon(on: host)
          try host.ctl("add-br br0")
          try host.ctl("add-br br1")
          let remote = Family.ipv4.address(2 - number)
          // A VNI for two VLANs is a trunk, narrowed to them; a VNI for one VLAN is bound to it by
          // a tag.
          try host.ctl("add-port br0 vx100 key=100 remote=\(remote) trunks=[10,20]")
          try host.ctl("add-port br0 vx200 key=200 remote=\(remote) trunks=[30,40]")
          try host.ctl("add-port br1 vx300 key=300 remote=\(remote) tag=10")
        }
        var containers: [(Member, Namespace)] = []
        for (number, host) in hosts.enumerated() {
          for (index, member) in Self.members(of: number + 1).enumerated() {
            containers.append((member, try self.container(member, index: index, on: host, in: lab)))
          }
        }
        let macs = try containers.map { _, container in
          try container.mac()
        }.joined(separator: " ")

        let sniffers = try containers.map { try Sniffer(in: $0.1) }
        for (index, (member, container)) in containers.enumerated() {
          let own = member.segments.keys.map { $0.map(String.init) ?? "-" }.sorted()
          let foreign = ["-", "0", "10", "20", "30", "40", "50", "4095"].filter {
            !own.contains($0)
          }
          try container.must(
            """
            python3 $TRAFFIC/flood.py eth0 \(member.name) 600 \(seed + index) \
              \((own + foreign).joined(separator: ",")) \(macs)
            """
          )
        }
        sleep(1)
        for ((member, _), sniffer) in zip(containers, sniffers) {
          let heard = try sniffer.stop()
          for mark in heard.keys {
            #expect(
              mayHear(member, mark, among: containers.map(\.0)),
              "\(member.name) heard \(heard[mark] ?? 0) frames of \(mark.origin), tag \(mark.tag as Any)"
            )
          }
          // A switch that forwards nothing leaks nothing: what may arrive must.
          for (other, _) in containers where other.name != member.name {
            for tag in other.segments.keys {
              let mark = Mark(origin: other.name, tag: tag)
              if mayHear(member, mark, among: [other]) {
                #expect(
                  heard[mark, default: 0] >= 3,
                  "\(member.name) of \(other.name), tag \(tag as Any)"
                )
              }
            }
          }
        }
        for host in hosts { try host.ctl("show") }
      }
    }

    private func container(
      _ member: Member,
      index: Int,
      on host: Namespace,
      in lab: Lab
    ) throws -> Namespace {
      let address = "172.17.42.\(10 + index)/24"
      guard let only = member.segments.first, member.segments.count == 1 else {
        let container = try lab.vethContainer(member.name, on: host, address: address, mtu: 1446)
        let vlans = member.segments.values.map { "\($0.vlan)" }.joined(separator: ",")
        try host.ctl("add-port br0 \(member.name) trunks=[\(vlans)]")
        return container
      }
      let tag = only.value.vlan == 0 ? "vlan_mode=access" : "tag=\(only.value.vlan)"
      switch member.attachment {
      case .tap, .attachedVeth:
        let container = try lab.namespace(member.name)
        let kind = member.attachment == .tap ? Lab.attachKind : "veth"
        try host.ctl(
          "attach \(only.value.bridge) \(container.name) eth0 ip=\(address) mtu=1446 \(tag) kind=\(kind)"
        )
        return container
      case .veth:
        let container = try lab.vethContainer(member.name, on: host, address: address, mtu: 1446)
        try host.ctl("add-port \(only.value.bridge) \(member.name) \(tag)")
        return container
      }
    }

    /// Whether a frame of a mark may reach a member: they share the segment, on one host or over
    /// its tunnel.
    private func mayHear(_ member: Member, _ mark: Mark, among members: [Member]) -> Bool {
      guard let sender = members.first(where: { $0.name == mark.origin }) else { return false }
      // A priority tag, VLAN 0, means the same as none.
      let tag = mark.tag == 0 && sender.segments[nil] != nil ? nil : mark.tag
      guard let segment = sender.segments[tag], member.segments.values.contains(segment) else {
        return false
      }
      return sender.host == member.host || Self.isStretched(segment)
    }

    @Test func secondVNIOnASegmentIsRefused() throws {
      try Lab.run { lab in
        let host = try lab.twoHosts().0
        try lab.overlay(on: host, vni: 100, remotes: [2], tag: 100)
        let before = try host.ctl("show")
        for line in [
          "add-port br0 vxlan1 key=200 remote=192.168.5.9 tag=100",
          "add-port br0 vxlan1 key=200 remote=192.168.5.9",
          "add-port br0 vxlan1 key=200 remote=192.168.5.9 trunks=[99,100]",
          "add-port br0 vxlan1 key=200 remote=192.168.5.9 tag=200 -- set Port vxlan1 tag=100",
          "add-br br1 -- add-port br1 vxlan1 key=100 remote=192.168.5.9 tag=100",
        ] {
          let output = try host.ctl(line.split(separator: " ").map(String.init))
          #expect(output.status == 1, "\(line)\n\(output.standardOutput)")
          #expect(output.standardError.contains("100"), "\(line)\n\(output.standardError)")
        }
        #expect(try host.ctl("show") == before)
      }
    }
  }
}
