import OVXDatapath
import Testing

@testable import OVXLinux

/// The entries of the fast path, shared among tenants.
@Suite struct EntryPoolTests {
  private static func segment(_ number: UInt16) -> EntryPool.Segment {
    EntryPool.Segment(
      bridge: BridgeID(rawValue: 0), vlan: VLANID(rawValue: number) ?? .untagged)
  }

  private func fill(_ pool: inout EntryPool, _ segment: EntryPool.Segment) -> [UInt32] {
    var taken: [UInt32] = []
    while let number = pool.take(for: segment) { taken.append(number) }
    return taken
  }

  @Test func nobodyLeavesTheOthersWithout() {
    var pool = EntryPool(size: 4096)
    let (greedy, second, third) = (Self.segment(1), Self.segment(2), Self.segment(3))
    let first = fill(&pool, greedy)
    #expect(first.count == 4096 - 512, "one eighth is others'")
    #expect(fill(&pool, second).count == 512)
    #expect(pool.take(for: third) == nil)
    #expect(pool.fullest == greedy, "not the one that has less")
    for number in first.suffix(64) { pool.give(number, of: greedy) }
    #expect(pool.take(for: greedy) == nil)
    #expect(Set(fill(&pool, third)) == Set(first.suffix(64)))
  }

  @Test func whatIsGivenBackIsToBeHadAgain() {
    var pool = EntryPool(size: 100)
    let segment = Self.segment(1)
    for _ in 0..<3 {
      let taken = fill(&pool, segment)
      #expect(taken.count == 88)
      #expect(!pool.isWhole)
      for number in taken { pool.give(number, of: segment) }
      #expect(pool.isWhole)
    }
  }
}
