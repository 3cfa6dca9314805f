import OVXDatapath
import Testing

@Suite struct CountersTests {
  /// What several workers have counted of a port is one sum, of each counter.
  @Test func sumsLeaveNothingOut() {
    var counters = PortCounters()
    counters.receivedFrames = 1
    counters.receivedBytes = 2
    counters.sentFrames = 3
    counters.sentBytes = 4
    counters.answeredFrames = 5
    counters.reportedFrames = 6
    counters.unheardFrames = 7
    for reason in DropReason.allCases { counters[reason] = 7 + UInt64(reason.rawValue) }
    // One that is added later is to be set above.
    #expect(Mirror(reflecting: counters).children.count == 8)
    #expect(PortCounters.sum([counters]) == counters)
    #expect(PortCounters.sum([counters, counters]).reportedFrames == 12)
    #expect(PortCounters.sum([]) == PortCounters())
  }
}
