import OVXControl
import OVXDatapath
import OVXSimulation
import Testing

@Suite struct DatumTests {
  // MARK: Settings

  @Test(arguments: [
    ("tag=100", Setting(column: "tag", value: "100")),
    ("tag=", Setting(column: "tag", value: "")),
    ("options:key=100", Setting(column: "options", key: "key", value: "100")),
    ("options:remote_ip=fc00::1", Setting(column: "options", key: "remote_ip", value: "fc00::1")),
    ("external_ids:a:b=c=d", Setting(column: "external_ids", key: "a:b", value: "c=d")),
    ("external_ids:\"a=b\"=c", Setting(column: "external_ids", key: "a=b", value: "c")),
    ("external_ids:\"a\\\"b\"=c", Setting(column: "external_ids", key: "a\"b", value: "c")),
    (
      "external_ids:\"\u{301}\"=\u{301}",
      Setting(column: "external_ids", key: "\u{301}", value: "\u{301}")
    ),
    ("mac=02:00:00:00:00:01", Setting(column: "mac", value: "02:00:00:00:00:01")),
  ])
  func settings(text: String, setting: Setting) throws {
    #expect(try Setting(parsing: text) == setting)
  }

  @Test(arguments: ["", "=", "=5", "tag", "tag:5", "ta g=5", "options:key", "tag+=5", "\"tag\"=5"])
  func malformedSettings(text: String) {
    #expect(
      throws: ControlError(
        "\"\(text)\" is not of the form COLUMN=VALUE or COLUMN:KEY=VALUE")
    ) { try Setting(parsing: text) }
  }

  @Test func malformedKeys() {
    #expect(throws: ControlError("\"options:=5\" has no key after the colon")) {
      try Setting(parsing: "options:=5")
    }
    #expect(throws: ControlError("options:\"a=5: the closing quote is missing")) {
      try Setting(parsing: "options:\"a=5")
    }
  }

  // MARK: Values

  @Test(arguments: [
    ("{}", [:]),
    ("a=1", ["a": "1"]),
    ("{a=1}", ["a": "1"]),
    ("a=1,b=2", ["a": "1", "b": "2"]),
    ("{ a = 1 , b=2 c=3 }", ["a": "1", "b": "2", "c": "3"]),
    ("{a=fc00::1,b=[x]}", ["a": "fc00::1", "b": "[x]"]),
    (#"{"a,b"="c}d","e"=""}"#, ["a,b": "c}d", "e": ""]),
    (#"a="\"\\\/\n\r\t\u00e9""#, ["a": "\"\\/\n\r\té"]),
    ("{a=\"\",b=2}", ["a": "", "b": "2"]),
    // What is typed behind a quote may look like one character with it, and is not.
    ("a=\"\u{301}\"", ["a": "\u{301}"]),
    ("{\"\u{600}\"=\"\u{200D}\u{600}\"}", ["\u{600}": "\u{200D}\u{600}"]),
    ("{a=\u{301}b}", ["a": "\u{301}b"]),
  ])
  func maps(text: String, map: [String: String]) throws {
    var bench = try Workbench("add-br br0")
    try bench.run([set("external_ids", text)])
    #expect(bench.configuration.bridges["br0"]?.externalIDs == map)
  }

  @Test(arguments: [
    ("{a=1", "{a=1: the \"}\" is missing"),
    ("a", "a: \"a\" is not of the form KEY=VALUE"),
    ("{a=1}x", "{a=1}x: nothing may follow \"}\""),
    ("a=1}", "a=1}: nothing may follow \"}\""),
    ("{=1}", "{=1}: a value is missing in front of \"=\""),
    ("{a=\"1}", "{a=\"1}: the closing quote is missing"),
    (#"a="\x""#, #"a="\x": after a backslash comes one of " \ / n r t uXXXX"#),
    (#"a="\ud800""#, #"a="\ud800": after a backslash comes one of " \ / n r t uXXXX"#),
    ("", "there is no value, as where a variable is not set; type one, or {} for an empty one"),
    ("{a=,b=2}", "{a=,b=2}: \"a\" has no value; type a=\"\" for an empty text"),
    ("a=1,a=2", "the key \"a\" is there twice"),
  ])
  func malformedMaps(text: String, sentence: String) throws {
    var bench = try Workbench("add-br br0")
    #expect(throws: ControlError("external_ids of Bridge br0: " + sentence)) {
      try bench.run([set("external_ids", text)])
    }
  }

  private func set(_ column: String, _ value: String) -> Command {
    .set(
      table: "Bridge", record: "br0", settings: [Setting(column: column, value: value)],
      ifExists: false)
  }

  // MARK: Printing

  @Test(arguments: [
    (Datum.scalar(nil), "[]"), (.scalar(.integer(-5)), "-5"),
    (.scalar(.text("a.b-c_1")), "a.b-c_1"),
    (.scalar(.text("")), "\"\""), (.scalar(.text("true")), "\"true\""),
    (.scalar(.text("1a")), "\"1a\""),
    (.scalar(.text("a b")), "\"a b\""), (.scalar(.text("\"\\\n\u{1}é")), #""\"\\\n\u0001é""#),
    (.set([.integer(9), .integer(10)]), "[9, 10]"), (.set([]), "[]"), (.map([:]), "{}"),
    (.map(["b": .text("x"), "a c": .integer(1)]), "{\"a c\"=1, b=x}"),
  ])
  func printing(datum: Datum, text: String) {
    #expect(datum.description == text)
  }

  /// What `get` prints, `set` reads.
  @Test func printedMapsAreReadBack() throws {
    var random = SeededRandom()
    var bench = try Workbench("add-br br0")
    let letters =
      Array("ab\"\\,={}[] \n\u{1}é:1").map(String.init) + ["\u{301}", "\u{600}", "\r", "\u{200D}"]
    for _ in 0..<300 {
      var map: [String: String] = [:]
      for _ in 0..<Int.random(in: 0...4, using: &random) {
        let word = { (random: inout SeededRandom) in
          String(
            (0..<Int.random(in: 0...5, using: &random)).map { _ in
              letters[Int.random(in: 0..<letters.count, using: &random)]
            }.joined())
        }
        map[word(&random)] = word(&random)
      }
      try bench.run([set("external_ids", Datum.map(map.mapValues(Atom.text)).description)])
      #expect(bench.configuration.bridges["br0"]?.externalIDs == map, "\(random)")
    }
  }

  /// Any key can be named in every command that takes one, as it is printed.
  @Test(arguments: ["a", "a b", "a=b", "a<b", "{in}", "", "a:b", "\"", "[a]", "\u{301}", "\n"])
  func keysAreTypedAsTheyArePrinted(key: String) throws {
    var bench = try Workbench("add-br br0")
    let entry = "external_ids:\(Atom.text(key))=\(Atom.text("x=\(key)"))"
    try bench.run([
      .set(
        table: "Bridge", record: "br0", settings: [try Setting(parsing: entry)], ifExists: false)
    ])
    #expect(bench.configuration.bridges["br0"]?.externalIDs == [key: "x=\(key)"])
    let found = try bench.run([
      .find(
        table: "Bridge", conditions: [try Condition(parsing: entry)], columns: ["name"]),
      .get(
        table: "Bridge", record: "br0", columns: ["external_ids:\(Atom.text(key))"],
        ifExists: false),
    ])
    #expect(
      found == [
        .records(RecordList(columns: ["name"], rows: [[.scalar(.text("br0"))]])),
        .values([.scalar(.text("x=\(key)"))]),
      ])
    try bench.run([
      .remove(
        table: "Bridge", record: "br0", column: "external_ids", values: ["\(Atom.text(key))"],
        ifExists: false)
    ])
    #expect(bench.configuration.bridges["br0"]?.externalIDs == [:])
  }

  /// A sentence is one line, whatever it quotes.
  @Test func errorsHaveNoControlCharacters() throws {
    var bench = try Workbench("add-br br0")
    let error = #expect(throws: ControlError.self) {
      try bench.run([set("external_ids", "\u{1B}[2J\n")])
    }
    #expect(error?.message.hasPrefix("external_ids of Bridge br0: ?[2J?: ") == true)
  }
}

@Suite struct HostileTextTests {
  /// Whatever is typed, there is a sentence or a valid state, and no trap.
  @Test func randomSettings() throws {
    var random = SeededRandom()
    let pieces = [
      "tag", "trunks", "options", "external_ids", "type", "mac", "mtu", "key", "remote", "=", ":",
      ",", "[",
      "]", "{", "}", "\"", "\\", "\\u00", " ", "\u{301}", "\0", "100", "4096", "-1", "fc00::1",
      "10.0.0.1",
      "02:00:00:00:00:01", "vxlan", "tap", "99999999999999999999", "<", "!=", "é",
    ]
    let text = { (random: inout SeededRandom) in
      (0..<Int.random(in: 1...9, using: &random)).map { _ in
        pieces[Int.random(in: 0..<pieces.count, using: &random)]
      }.joined()
    }
    var bench = try Workbench("add-br br0", "add-port br0 veth1 tag=7")
    var accepted = 0
    for round in 0..<500 {
      let column = pieces[Int.random(in: 0..<9, using: &random)]
      let setting = try? Setting(parsing: text(&random))
      let value = Setting(column: column, value: text(&random))
      let condition =
        (try? Condition(parsing: text(&random)))
        ?? Condition(column: column, key: text(&random), comparison: .less, value: text(&random))
      let commands: [Command] = [
        .addPort(bridge: "br0", port: "p\(round)", settings: [value], mayExist: false),
        .set(table: "int", record: "veth1", settings: [setting ?? value], ifExists: false),
        .add(
          table: "port", record: "veth1", column: column, values: [text(&random)], ifExists: false),
        .remove(
          table: "port", record: "veth1", column: column, values: [text(&random)], ifExists: false),
        .find(table: "port", conditions: [condition], columns: []),
        .find(table: "int", conditions: [condition], columns: []),
        .attach(
          bridge: "br0",
          attachment: Configuration.Attachment(target: text(&random), interface: "eth0"),
          settings: [],
          mayExist: false),
      ]
      for command in commands {
        do {
          try bench.run([command])
          accepted += 1
          try bench.configuration.validate()
        } catch let error as ControlError {
          #expect(!error.message.isEmpty, "\(random)")
        }
      }
      if bench.configuration.ports.count > 20 {
        bench = try Workbench("add-br br0", "add-port br0 veth1 tag=7")
      }
    }
    #expect(accepted > 50, "\(random)")
  }
}

@Suite struct AddressTests {
  @Test(arguments: [
    ("0.0.0.0", "0.0.0.0"), ("192.168.5.3", "192.168.5.3"), ("255.255.255.255", "255.255.255.255"),
    ("::", "::"), ("FC00:0:0::1", "fc00::1"), ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
    ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
  ])
  func addresses(text: String, canonical: String) throws {
    #expect(try #require(IPAddress(text)).description == canonical)
  }

  @Test(arguments: [
    "", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4x", "1:2", "fc00::1%eth0", "host", "1.2.3.4\0",
    " 1.2.3.4", "[::1]", "1.2.3.4/24",
  ])
  func malformedAddresses(text: String) {
    #expect(IPAddress(text) == nil)
  }

  @Test func addressesAsNumbers() throws {
    #expect(IPAddress("192.168.5.3") == IPAddress(v4: 0xC0A8_0503))
    #expect(
      IPAddress("fc00:1:2:3:4:5:6:7")
        == IPAddress(v6High: 0xFC00_0001_0002_0003, low: 0x0004_0005_0006_0007))
    #expect(try #require(IPAddress("239.255.0.1")).isMulticast)
    #expect(try #require(IPAddress("ff02::1")).isMulticast)
    #expect(try !#require(IPAddress("223.255.255.255")).isMulticast)
  }

  @Test(arguments: [
    ("10.0.0.5/24", "10.0.0.255", true), ("10.0.0.5/24", "10.0.1.1", false),
    ("10.0.0.5/0", "200.0.0.1", true), ("10.0.0.5/32", "10.0.0.5", true),
    ("10.0.0.5/32", "10.0.0.4", false), ("10.0.0.5/8", "::a00:5", false),
    ("fd00::5/64", "fd00::ffff:0:0:1", true), ("fd00::5/64", "fd00:0:0:1::1", false),
    ("fd00::5/48", "fd00:0:0:1::1", true), ("fd00::5/127", "fd00::4", true),
    ("fd00::5/127", "fd00::6", false), ("fd00::5/128", "fd00::5", true), ("fd00::5/0", "::1", true),
  ])
  func networks(network: String, address: String, isInside: Bool) throws {
    let network = try #require(InterfaceAddress(network))
    #expect(network.contains(try #require(IPAddress(address))) == isInside)
  }

  @Test(arguments: [
    "10.0.0.5", "10.0.0.5/", "10.0.0.5/33", "10.0.0.5/-1", "10.0.0.5/+1", "::1/129", "/24",
  ])
  func malformedNetworks(text: String) {
    #expect(InterfaceAddress(text) == nil)
  }
}
