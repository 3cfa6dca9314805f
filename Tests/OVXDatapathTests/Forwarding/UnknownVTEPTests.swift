import Testing

@testable import OVXDatapath

@Suite struct UnknownVTEPTests {
  @Test func theLatestAreKeptEachOnce() {
    var unknown = UnknownVTEPs()
    for number: UInt32 in [1, 2, 2, 1, 3, 4, 1, 5] { unknown.note(IPAddress(v4: number)) }
    #expect(unknown.addresses == [3, 4, 1, 5].map { IPAddress(v4: $0) })
  }
}
