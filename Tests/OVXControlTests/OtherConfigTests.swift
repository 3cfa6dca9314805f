import Foundation
import OVXControl
import OVXDatapath
import Testing

/// The keys of `other_config`: the article on them, held against the declarations, and what both
/// say of values.
@Suite struct OtherConfigTests {
  private static let network = Configuration.Network(
    name: "red", vni: .zero, bridge: "br0", tag: .untagged)
  private static let device = Configuration.Port(
    name: "p", bridge: "br0", interface: Configuration.Interface(type: .system))
  private static let tunnel = Configuration.Port(
    name: "v", bridge: "br0", interface: Configuration.Interface(type: .vxlan))

  /// A key as the article and as its declaration tell of it.
  private struct Row: Equatable {
    var table: String
    var key: String
    var values: String
  }

  private static func declared<Record: OtherConfigRecord>(
    _ table: String, _: Record.Type
  ) -> [Row] {
    Record.otherConfigKeys.map { Row(table: table, key: $0.name, values: $0.values) }
  }

  /// The cells of the article's table.
  private static func article() throws -> [[String]] {
    let url = packageRoot.appendingPathComponent(
      "Sources/ovx-ctl/ovx-ctl.docc/OtherConfig.md")
    return try String(contentsOf: url, encoding: .utf8).split(separator: "\n")
      .filter { $0.hasPrefix("| ") && $0.contains("| `") }
      .map { line in
        line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
      }
  }

  private static func unquoted(_ cell: String) -> String {
    cell.trimmingCharacters(in: CharacterSet(charactersIn: "`"))
  }

  @Test func theArticleNamesAllKeys() throws {
    let rows = try Self.article().map {
      Row(table: $0[0], key: Self.unquoted($0[1]), values: $0[2])
    }
    #expect(
      rows == Self.declared("Switch", Configuration.SwitchRecord.self)
        + Self.declared("Bridge", Configuration.Bridge.self)
        + Self.declared("Port", Configuration.Port.self)
        + Self.declared("Interface", Configuration.Interface.self)
        + Self.declared("Network", Configuration.Network.self))
  }

  private func expectUsual<Record: OtherConfigRecord>(
    _ text: String?, _ key: String, of record: Record
  ) throws {
    let declaration = try #require(Record.otherConfigKeys.first { $0.name == key })
    if let text {
      #expect(declaration.isUsual(text, of: record), "\(key)=\(text) is not what counts without it")
    }
  }

  /// What the article says of a key that is not set says the same where it is set.
  @Test func theArticleTellsWhatCountsWithoutAKey() throws {
    for row in try Self.article() {
      let (key, texts) = (Self.unquoted(row[1]), row[3].matches(of: /`(.+?)`/).map { String($0.1) })
      switch row[0] {
      case "Switch": try expectUsual(texts.first, key, of: Configuration().host)
      case "Bridge": try expectUsual(texts.first, key, of: Configuration.Bridge(name: "br0"))
      case "Network": try expectUsual(texts.first, key, of: Self.network)
      case "Interface": try expectUsual(texts.first, key, of: Self.device.interface)
      default:
        try expectUsual(texts.first, key, of: Self.device)
        try expectUsual(texts.last, key, of: Self.tunnel)
      }
    }
  }

  /// Each key has values that are refused, in a sentence that says of what and where, and one that
  /// leaves it as it was.
  @Test(arguments: [
    ("switch .", "switch", "gateway-transit"),
    ("switch .", "gateway-uplinks device", "gateway-uplinks"),
    ("switch .", "switch", "evpn-hold"), ("switch .", "switch", "evpn-limit"),
    ("switch .", "switch", "fast-path"),
    ("bridge br0", "bridge br0", "mac-aging-time"), ("bridge br0", "bridge br0", "mac-table-size"),
    ("bridge br0", "bridge br0", "neighbor-suppression"),
    ("bridge br0", "bridge br0", "joined-vnis"), ("bridge br0", "bridge br0", "hwaddr"),
    ("port p", "port p", "qinq-ethtype"), ("port p", "port p", "priority-tags"),
    ("port p", "port p", "storm-control"), ("interface p", "interface p", "accept-ra"),
    ("network red", "network red", "evpn-flood-unknown"),
    ("network red", "network red", "route-target"),
  ])
  func valuesAreRefusedByTheirOwner(record: String, owner: String, key: String) throws {
    var bench = try Workbench("add-br br0", "add-port br0 p type=tap", "add-net red vni=5")
    let before = bench.configuration
    let refusal = bench.refusal("set \(record) other_config:\(key)=\"a/b\"")
    #expect(refusal.contains(owner) && refusal.contains(key), "\(refusal)")
    #expect(bench.configuration == before)
    try bench.run("set \(record) other_config:a-\(key)=\"a/b\"")
  }
}
