import OVXControl
import Testing

/// What the log says of a request that changes something.
@Suite struct ChangeSummaryTests {
  private func summary(_ commands: Command...) -> String {
    Request(commands: commands).changeSummary
  }

  @Test func words() {
    #expect(
      summary(
        .addBridge(bridge: "br0", mayExist: true), .show,
        .addPort(
          bridge: "br0", port: "veth1", settings: [Setting(column: "tag", value: "100")],
          mayExist: false))
        == "add-br br0 -- add-port br0 veth1 tag=100")
    #expect(
      summary(
        .set(
          table: "Port", record: "p",
          settings: [Setting(column: "other_config", key: "storm-control", value: "off")],
          ifExists: false)) == "set Port p other_config:storm-control=off")
    #expect(summary(.exit(cleanup: true)) == "exit --cleanup")
    #expect(summary(.show) == "")
  }

  /// What programs keep in external_ids is theirs, however the column is written.
  @Test(arguments: ["external_ids", "External-IDs", "ext"])
  func privateValues(_ column: String) {
    let setting = Setting(column: column, key: "token", value: "s3cret")
    #expect(
      summary(.set(table: "port", record: "p", settings: [setting], ifExists: false))
        == "set port p \(column):token=...")
    #expect(
      !summary(
        .add(
          table: "port", record: "p", column: column, values: ["token=s3cret"], ifExists: false)
      ).contains("s3cret"))
    #expect(
      !summary(.addPort(bridge: "b", port: "p", settings: [setting], mayExist: false))
        .contains("s3cret"))
  }

  /// One line of bounded length, whatever names are.
  @Test func bounded() {
    let long = String(repeating: "n", count: 500_000)
    let words = String(repeating: "many words ", count: 50_000)
    for name in [long, words, "a\nb\u{1B}[2J\r", String(repeating: "é\n", count: 100_000)] {
      let text = summary(
        .addBridge(bridge: name, mayExist: false),
        .set(
          table: name, record: name,
          settings: Array(repeating: Setting(column: name, key: name, value: name), count: 100),
          ifExists: false))
      #expect(text.utf8.count <= Request.summaryLimit + 100)
      #expect(!text.unicodeScalars.contains { $0.value < 0x20 })
      #expect(!text.isEmpty)
    }
    let many = Request(
      commands: (0..<16000).map { .deletePort(bridge: nil, port: "p\($0)", ifExists: true) })
    #expect(many.changeSummary.hasPrefix("del-port p0 -- del-port p1"))
    #expect(many.changeSummary.hasSuffix(" commands more"))
    #expect(many.changeSummary.utf8.count <= Request.summaryLimit + 100)
  }

  @Test func whatACheckTakes() {
    let add = Command.addBridge(bridge: "b", mayExist: false)
    #expect(Request(commands: [add]).right == .change)
    #expect(Request(commands: [add], dryRun: true).right == .change)
    #expect(Request(commands: [.show, .listBridges]).right == .look)
    #expect(Request(commands: [.show, add]).right == .change)
    let file = Command.apply(Configuration(), declaresSwitch: false)
    #expect(Request(commands: [file]).right == .change)
    #expect(Request(commands: [file], dryRun: true).right == .look)
    #expect(Request(commands: [file, add], dryRun: true).right == .change)
    #expect(Request(commands: []).right == .look)
  }
}
