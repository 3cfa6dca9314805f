import OVXSimulation
import Testing

@testable import OVXDatapath

@Suite struct DropJournalTests {
  /// Reasons are written down with the frame that they are about, and only while somebody wants
  /// that.
  @Test func eachDropIsWrittenDownWithItsFrame() throws {
    var topology = Topology()
    topology.bridges = [Topology.Bridge(id: BridgeID(rawValue: 0))]
    topology.ports = (0..<2).map { number in
      Topology.Port(
        id: PortID(rawValue: UInt16(number)), bridge: BridgeID(rawValue: 0),
        vlans: .access(.untagged), attachment: .device(Topology.Device(mtu: 1500, capabilities: []))
      )
    }
    var datapath = unsafe Datapath(seed: 1) { _, _ in }
    datapath.apply(topology)
    let size = 60
    let memory = UnsafeMutableRawPointer.allocate(byteCount: 256 + size, alignment: 64)
    defer { unsafe memory.deallocate() }
    func receive(_ destination: [UInt8], count: Int = size) {
      let frame = unsafe memory + 128
      unsafe frame.initializeMemory(as: UInt8.self, repeating: 0, count: size)
      unsafe frame.copyMemory(from: destination + [2, 0, 0, 0, 0, 1], byteCount: 12)
      unsafe datapath.receiveFrame(
        frame, count: count, offload: .none, tag: .none, from: PortID(rawValue: 0))
    }
    let reserved: [UInt8] = [1, 0x80, 0xC2, 0, 0, 0]
    receive(reserved)
    #expect(datapath.notedDropCount == 0)
    datapath.notesDrops = true
    let first = datapath.frameCount
    receive(reserved)
    receive([0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF])
    receive(reserved, count: 10)
    receive(reserved)
    try #require(datapath.notedDropCount == 3)
    let drops = (0..<3).map { datapath.notedDrop($0) }
    #expect(drops.map(\.reason) == [.reservedDestination, .truncated, .reservedDestination])
    // What is turned away at the door has no number of its own.
    #expect(drops.map { $0.frameCount - first } == [1, 2, 3])
    #expect(drops.allSatisfy { $0.port == PortID(rawValue: 0) && $0.frames == 1 })
    #expect(datapath.forgetDrops() == 0)
    // What there is no room for is counted.
    for _ in 0..<5000 { receive(reserved) }
    #expect(datapath.notedDropCount == 4096)
    #expect(datapath.forgetDrops() == 5000 - 4096)
    datapath.notesDrops = false
    receive(reserved)
    #expect(datapath.notedDropCount == 0)
    #expect(datapath.counters(of: PortID(rawValue: 0))[.reservedDestination] == 5004)
  }
}
