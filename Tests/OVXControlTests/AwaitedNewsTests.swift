import OVXControl
import Testing

/// What a request waits for, by what is typed.
@Suite struct AwaitedNewsTests {
  private func news(_ table: String, _ record: String, _ column: String? = nil) -> AwaitedNews? {
    let conditions = column.map { [Condition(column: $0, comparison: .equal, value: "1")] } ?? []
    return AwaitedNews(
      Request(commands: [
        .listBridges, .waitUntil(table: table, record: record, conditions: conditions),
      ]))
  }

  @Test func onlyWhatIsWaitedForIsNews() {
    #expect(AwaitedNews(Request(commands: [.listBridges])) == nil)
    for table in ["port", "Interface", "int"] {
      let port = news(table, "p1")
      #expect(port?.isAmong(["p0", "p1"], isConfigured: false) == true)
      #expect(port?.isAmong(["p0"], isConfigured: true) == false)
      #expect(port?.isAmong([], isConfigured: false) == false)
    }
    for (table, record) in [("bridge", "br0"), ("switch", "."), ("Open_vSwitch", ".")] {
      #expect(news(table, record)?.isAmong([], isConfigured: true) == true)
      #expect(news(table, record)?.isAmong(["p1"], isConfigured: false) == false)
    }
    // Its error is one of its ports'.
    #expect(news("network", "net1")?.isAmong(["p1"], isConfigured: false) == true)
    #expect(news("network", "net1")?.isAmong([], isConfigured: true) == true)
    // Names that are another one's.
    for record in ["@p", "2f6f0b6c-9df5-8f9c-8a55-0b62f4a1b0ad"] {
      #expect(news("port", record)?.isAmong(["p1"], isConfigured: false) == true)
    }
  }

  @Test func countersAreNoNews() {
    #expect(news("interface", "p1", "statis")?.includesCounters == true)
    #expect(news("interface", "p1", "link_state")?.includesCounters == false)
    #expect(news("port", "p1", "nonsense")?.includesCounters == false)
  }
}
