private import OVXDatapath
private import OVXLinux
import Testing

@Suite(.enabled(if: isRoot, "makes network namespaces, which takes root"))
struct UnderlayRulesTests {
  private let rules = UnderlayRules(owner: "/var/lib/ovx/conf.db")

  private func nft(_ words: String..., in namespace: NetworkNamespace) throws -> String {
    try namespace.perform { () throws(LinuxError) in
      let output = try run("/usr/sbin/nft", words, until: .now + .seconds(10))
      #expect(output.status == 0, "nft \(words): \(output.errors)")
      return output.output
    }
  }

  private func destination(_ address: IPAddress, _ port: UInt16) -> UnderlayRules.Destination {
    UnderlayRules.Destination(address: address, port: port)
  }

  @Test func namesAreOfOneDatabase() {
    #expect(rules.table == UnderlayRules(owner: "/var/lib/ovx/conf.db").table)
    #expect(rules.table != UnderlayRules(owner: "/tmp/conf.db").table)
    #expect(rules.table.wholeMatch(of: /ovx-underlay-[0-9a-f]{8}/) != nil)
  }

  @Test func theTableIsWhatNftUnderstands() throws {
    let namespace = try NetworkNamespace.anonymous()
    _ = try nft("add", "table", "ip", "others", in: namespace)
    var nftables = try namespace.perform { () throws(LinuxError) in try Nftables() }
    try nftables.install(rules, for: [destination(v4(192, 168, 5, 3), 4789)])
    try nftables.change(
      rules, adding: [destination(v6(3), 8472)], removing: [destination(v4(192, 168, 5, 3), 4789)])
    let expected = """
      table inet \(rules.table) {
      \tcomment "made and kept by ovx-vswitchd for /var/lib/ovx/conf.db"
      \tcounter refused {
      \t\tpackets 0 bytes 0
      \t}

      \tset remotes4 {
      \t\ttype ipv4_addr . inet_service
      \t}

      \tset remotes6 {
      \t\ttype ipv6_addr . inet_service
      \t\telements = { fd00::3 . 8472 }
      \t}

      \tchain postrouting {
      \t\ttype filter hook postrouting priority 200; policy accept;
      \t\tmeta l4proto != udp accept
      \t\tmeta skgid 4294841013 accept
      \t\tip daddr . udp dport @remotes4 counter name "refused" drop
      \t\tip6 daddr . udp dport @remotes6 counter name "refused" drop
      \t}
      }

      """
    #expect(try nft("list", "table", "inet", rules.table, in: namespace) == expected)
    #expect(try nftables.refused(rules) == 0)

    // What is not there cannot be removed, and nothing is half done.
    #expect(throws: LinuxError.self) {
      try nftables.change(
        rules, adding: [destination(v6(4), 1)], removing: [destination(v6(5), 1)])
    }
    #expect(try nft("list", "table", "inet", rules.table, in: namespace) == expected)

    try nftables.remove(rules)
    try nftables.remove(rules)
    #expect(try nft("list", "ruleset", in: namespace) == "table ip others {\n}\n")
  }

  @Test func newsAreOfOthers() throws {
    let namespace = try NetworkNamespace.anonymous()
    var nftables = try namespace.perform { () throws(LinuxError) in try Nftables() }
    var events = try namespace.perform { () throws(LinuxError) in
      try NftablesEvents(exceptFor: nftables)
    }
    try nftables.install(rules, for: [destination(v6(3), 4789)])
    #expect(try events.next() == nil)
    _ = try nft("flush", "ruleset", in: namespace)
    var news: [NftablesEvent] = []
    while let event = try events.next() { news.append(event) }
    #expect(news == [.changed(table: rules.table), .committed(by: "nft")])
    #expect(try !nftables.exists(rules))
  }
}
