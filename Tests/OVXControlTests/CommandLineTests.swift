import OVXControl
import OVXDatapath
import SystemPackage
import Testing

@testable import ovx_ctl

@Suite struct CommandLineTests {
  private func parse(_ line: String) throws -> Invocation {
    try Invocation(parsing: line.split(separator: " ").map(String.init))
  }

  private func complaint(_ line: String) -> String {
    do {
      let invocation = try parse(line)
      Issue.record("\(line) was understood: \(invocation.commands)")
      return ""
    } catch {
      return "\(error)"
    }
  }

  private static let address = MACAddress("02:00:00:00:00:05") ?? .broadcast
  private static let vlan = VLANID(rawValue: 100) ?? .untagged

  // MARK: Lines of the contract

  @Test(arguments: [
    ("add-br br0", [Command.addBridge(bridge: "br0", mayExist: false)]),
    ("--may-exist add-br br0", [.addBridge(bridge: "br0", mayExist: true)]),
    ("add-br br0 --may-exist", [.addBridge(bridge: "br0", mayExist: true)]),
    ("add-br --may-exist br0", [.addBridge(bridge: "br0", mayExist: true)]),
    ("-- --may-exist add-br br0", [.addBridge(bridge: "br0", mayExist: true)]),
    ("-t 5 -- add-br br0", [.addBridge(bridge: "br0", mayExist: false)]),
    ("--may-exist -- add-br br0", [.addBridge(bridge: "br0", mayExist: true)]),
    ("--if-exists del-br br0", [.deleteBridge(bridge: "br0", ifExists: true)]),
    ("del-br br0", [.deleteBridge(bridge: "br0", ifExists: false)]),
    (
      "add-port br0 veth1 tag=100",
      [
        .addPort(
          bridge: "br0", port: "veth1", settings: [Setting(column: "tag", value: "100")],
          mayExist: false)
      ]
    ),
    (
      "--may-exist add-port br0 vxlan0 key=100 remote=192.168.5.3,192.168.5.4",
      [
        .addPort(
          bridge: "br0", port: "vxlan0",
          settings: [
            Setting(column: "key", value: "100"),
            Setting(column: "remote", value: "192.168.5.3,192.168.5.4"),
          ], mayExist: true)
      ]
    ),
    (
      "add-port br0 vxlan0 tag=100 -- set interface vxlan0 type=vxlan options:key=100 "
        + "options:remote_ip=192.168.5.3",
      [
        .addPort(
          bridge: "br0", port: "vxlan0", settings: [Setting(column: "tag", value: "100")],
          mayExist: false),
        .set(
          table: "interface", record: "vxlan0",
          settings: [
            Setting(column: "type", value: "vxlan"),
            Setting(column: "options", key: "key", value: "100"),
            Setting(column: "options", key: "remote_ip", value: "192.168.5.3"),
          ], ifExists: false),
      ]
    ),
    ("del-port veth1", [.deletePort(bridge: nil, port: "veth1", ifExists: false)]),
    ("--if-exists del-port br0 veth1", [.deletePort(bridge: "br0", port: "veth1", ifExists: true)]),
    (
      "set Port br0 tag=100",
      [
        .set(
          table: "Port", record: "br0", settings: [Setting(column: "tag", value: "100")],
          ifExists: false)
      ]
    ),
    (
      "get port p tag other_config:x",
      [.get(table: "port", record: "p", columns: ["tag", "other_config:x"], ifExists: false)]
    ),
    ("list port", [.list(table: "port", records: [], columns: [], ifExists: false)]),
    (
      "--columns=name,tag list port a b",
      [.list(table: "port", records: ["a", "b"], columns: ["name", "tag"], ifExists: false)]
    ),
    (
      "--columns name,tag -t5 list port a",
      [.list(table: "port", records: ["a"], columns: ["name", "tag"], ifExists: false)]
    ),
    (
      "-t 5 --columns name -- list port a",
      [.list(table: "port", records: ["a"], columns: ["name"], ifExists: false)]
    ),
    (
      "find port tag=100",
      [
        .find(
          table: "port", conditions: [Condition(column: "tag", comparison: .equal, value: "100")],
          columns: [])
      ]
    ),
    (
      "add port p trunks 1 2",
      [.add(table: "port", record: "p", column: "trunks", values: ["1", "2"], ifExists: false)]
    ),
    (
      "--if-exists remove port p trunks 1",
      [.remove(table: "port", record: "p", column: "trunks", values: ["1"], ifExists: true)]
    ),
    (
      "clear port p tag trunks",
      [.clear(table: "port", record: "p", columns: ["tag", "trunks"], ifExists: false)]
    ),
    (
      "wait-until port p tag=100",
      [
        .waitUntil(
          table: "port", record: "p",
          conditions: [Condition(column: "tag", comparison: .equal, value: "100")])
      ]
    ),
    ("list-br", [.listBridges]),
    ("br-exists br0", [.bridgeExists(bridge: "br0")]),
    ("list-ports br0", [.listPorts(bridge: "br0")]),
    ("list-ifaces br0", [.listPorts(bridge: "br0")]),
    ("port-to-br veth1", [.portToBridge(port: "veth1")]),
    ("iface-to-br veth1", [.portToBridge(port: "veth1")]),
    ("show", [.show]),
    ("show --links", [.showLinks(bridge: nil)]),
    ("show --links br0", [.showLinks(bridge: "br0")]),
    (
      "attach br0 pid:7 eth0 ip=10.0.0.5/24 tag=5 gateway=10.0.0.1",
      [
        .attach(
          bridge: "br0",
          attachment: Configuration.Attachment(
            target: "pid:7", interface: "eth0",
            addresses: [InterfaceAddress("10.0.0.5/24")].compactMap { $0 },
            gateways: [IPAddress("10.0.0.1")].compactMap { $0 }),
          settings: [Setting(column: "tag", value: "5")], mayExist: false)
      ]
    ),
    ("detach web1 eth0", [.detach(target: "web1", interface: "eth0", ifExists: false)]),
    ("fdb show", [.showAddresses(bridges: [])]),
    ("fdb/show br0", [.showAddresses(bridges: ["br0"])]),
    ("fdb flush", [.flushAddresses(bridge: nil)]),
    ("fdb/flush br0", [.flushAddresses(bridge: "br0")]),
    (
      "fdb add br0 veth1 100 02:00:00:00:00:05",
      [.addAddress(bridge: "br0", port: "veth1", vlan: vlan, address: address)]
    ),
    (
      "fdb/del br0 100 02:00:00:00:00:05",
      [.deleteAddress(bridge: "br0", vlan: vlan, address: address)]
    ),
    ("fdb stats", [.addressStatistics(bridges: [])]),
    ("neigh show", [.showNeighbors(bridges: [])]),
    ("neigh/show br0 br1", [.showNeighbors(bridges: ["br0", "br1"])]),
    ("neigh flush", [.flushNeighbors(bridge: nil)]),
    ("neigh/flush br0", [.flushNeighbors(bridge: "br0")]),
    ("neigh stats br0", [.neighborStatistics(bridges: ["br0"])]),
    ("neigh/stats-show", [.neighborStatistics(bridges: [])]),
    ("fdb/stats-show br0", [.addressStatistics(bridges: ["br0"])]),
    ("tunnel show", [.showTunnels]),
    ("stats", [.statistics(port: nil)]),
    ("stats veth1", [.statistics(port: "veth1")]),
    ("drops", [.drops]),
    ("export", [.export]),
    ("log show", [.logLevel]),
    ("vlog/list", [.logLevel]),
    ("log set debug", [.setLogLevel(.debug)]),
    ("vlog/set dbg", [.setLogLevel(.debug)]),
    ("vlog/set ANY:file:err", [.setLogLevel(.error)]),
    ("vlog/set any syslog WARN", [.setLogLevel(.warning)]),
    ("vlog/set emer", [.setLogLevel(.critical)]),
    ("top -n 3 -d 0.5", [.watch(tables: [.statistics, .sample], interval: 500)]),
    ("top -n3 -d0.5", [.watch(tables: [.statistics, .sample], interval: 500)]),
    ("version", [.version]),
    ("exit", [.exit(cleanup: false)]),
    ("exit --cleanup", [.exit(cleanup: true)]),
  ])
  func lines(line: String, commands: [Command]) throws {
    #expect(try parse(line).commands == commands)
  }

  @Test(arguments: [
    "--rundir /r -t 2.5 -f json --dry-run show", "show --rundir /r -t 2.5 -f json --dry-run",
    "--rundir=/r --timeout=2.5 show --format=json --dry-run",
    "--rundir=/r -t2.5 -fjson --dry-run show", "--rundir=/r show -t2.5 -fjson --dry-run",
    "--rundir /r list-br -- -t 2.5 show -- list-br -f json --dry-run",
  ])
  func optionsStandBeforeOrBehindTheCommand(line: String) throws {
    let options = try parse(line).options
    #expect(options.runDirectory == "/r")
    #expect(options.timeout == 2.5)
    #expect(options.format == .json)
    #expect(options.dryRun)
  }

  @Test func defaults() throws {
    let invocation = try parse("show")
    #expect(invocation.options.timeout == 10)
    #expect(invocation.options.format == nil)
    #expect(!invocation.options.dryRun)
    #expect(!invocation.repeats)
    #expect(try parse("drops --watch").repeats)
  }

  /// What scripts for ovs-vsctl have beside commands: nothing behind a "--", and what to log.
  @Test(arguments: [
    "add-br br0 --", "-- add-br br0 --", "-- -- add-br br0 -- --", "--no-wait -- add-br br0 --",
    "-vconsole:off -- add-br br0", "--no-syslog add-br br0", "--verbose=off -t 5 add-br br0",
    "-v --log-file=/dev/null --syslog-method=null add-br br0",
  ])
  func whatSaysNothing(_ line: String) throws {
    #expect(try parse(line).commands == parse("add-br br0").commands)
  }

  /// In front of `apply`, `-f` is the format, and behind it the file.
  @Test func theFileAndTheFormat() throws {
    let scratch = try Scratch()
    let path = scratch.path.appending("net.yaml").string
    let file = try FileDescriptor.open(
      FilePath(path), .writeOnly, options: .create, permissions: .ownerReadWrite)
    try file.closeAfter { _ = try file.writeAll("bridges: {br0: {}}".utf8) }
    let declared = try Workbench("add-br br0").configuration
    for (line, format, isDryRun) in [
      ("apply -f \(path)", nil, false), ("apply -f\(path)", nil, false),
      ("apply --file=\(path) -t 5", nil, false), ("-f json apply -f \(path)", .json, false),
      ("-f csv --dry-run apply -f \(path)", .csv, true),
      ("apply -f \(path) --format list --dry-run", .list, true), ("diff -f \(path)", nil, true),
      ("--rundir /r -f json -- diff -f \(path)", .json, true),
    ] as [(String, OutputFormat?, Bool)] {
      let invocation = try parse(line)
      #expect(invocation.commands == [.apply(declared, declaresSwitch: false)], "\(line)")
      #expect(invocation.options.format == format, "\(line)")
      #expect(invocation.options.dryRun == isDryRun, "\(line)")
      if line.contains("/r") { #expect(invocation.options.runDirectory == "/r") }
    }
    #expect(
      complaint("diff -f \(path) -- show")
        == "diff stands alone, as it changes nothing; take the \"--\" away")
    #expect(
      complaint("apply -f \(path) -- apply -f \(path)")
        == "one file is all that a transaction can apply; take the second one away")
  }

  // MARK: Complaints

  @Test(arguments: [
    ("", "there is no command; ovx-ctl --help lists them"),
    ("--dry-run", "there is no command; ovx-ctl --help lists them"),
    ("--", "there is no command; ovx-ctl --help lists them"),
    ("-- --", "there is no command after the \"--\" at place 0"),
    ("add-prot br0 p", "there is no command \"add-prot\"; did you mean add-port?"),
    ("frobnicate", "there is no command \"frobnicate\"; ovx-ctl --help lists the commands"),
    ("frobnicate --help", "there is no command \"frobnicate\"; ovx-ctl --help lists the commands"),
    ("-t 5 lst-br x y", "there is no command \"lst-br\"; did you mean list-br?"),
    ("add-br", "add-br: missing expected argument '<bridge>'; see ovx-ctl add-br --help"),
    ("list-br --may-exist", "list-br: unknown option '--may-exist'; see ovx-ctl list-br --help"),
    ("--may-exist list-br", "list-br: unknown option '--may-exist'; see ovx-ctl list-br --help"),
    ("fdb", "fdb needs one of its commands: show, flush, add, del, stats"),
    ("neigh", "neigh needs one of its commands: show, flush, stats"),
    (
      "neigh flush br0 br1",
      "neigh flush: unexpected argument 'br1'; see ovx-ctl neigh flush --help"
    ),
    (
      "fdb/shwo",
      "fdb: unexpected argument 'shwo'; its commands are show, flush, add, del, stats"
    ),
    (
      "add-br br0.10 br0 10",
      "add-br: 2 unexpected arguments: 'br0', '10'; ovx has no bridges that are a VLAN of another one: "
        + "tag=VLAN of a port says its VLAN, as with \"add-port BRIDGE p10 tag=VLAN type=internal\" for an "
        + "interface of the host"
    ),
    ("vlog/x", "vlog: unexpected argument 'x'; its commands are set, show"),
    ("quux show", "there is no command \"quux\"; ovx-ctl --help lists the commands"),
    ("log", "log needs one of its commands: set, show"),
    ("--columns", "unknown option '--columns'; ovx-ctl --help lists the commands"),
    ("add-br br\u{FFFD}", "the word \"br\u{FFFD}\" is not UTF-8; type it in that encoding"),
    (
      "drops --watch -- show",
      "drops --watch stands alone, as it goes on; take the \"--\" away"
    ),
    ("capture p -c 0", "-c \"0\" is not a number from 1 on"),
    ("capture p -s0", "-s \"0\" is not a number from 1 to 262144"),
    (
      "vlog/set netdev:dbg",
      "\"netdev:dbg\" is not a level of the log; it is one of trace, debug, info, notice, warning, error, "
        + "critical, and holds for all of the daemon"
    ),
    ("top -n 0", "top -n takes a number of tables, 1 or more"),
    ("top -d 0.01", "top -d takes the seconds between two tables, 0.1 to 3600"),
    ("top -- show", "top stands alone, as it goes on; take the \"--\" away"),
    ("apply", "there is no file; name one with -f FILE, or -f - for the standard input"),
    (
      "apply -f /nonexistent/net.yaml",
      "/nonexistent/net.yaml cannot be read: No such file or directory; name a file, or - for the standard input"
    ),
    (
      "diff -f /tmp",
      "/tmp cannot be read: Is a directory; name a file, or - for the standard input"
    ),
    ("del-port a b c", "del-port takes a port, or a bridge and a port, and not 3 names"),
    ("set port p tag", "\"tag\" is not of the form COLUMN=VALUE or COLUMN:KEY=VALUE"),
    ("add-port br0 p =5", "\"=5\" is not of the form COLUMN=VALUE or COLUMN:KEY=VALUE"),
    (
      "fdb del br0 4096 02:00:00:00:00:05",
      "VLAN \"4096\" is not in the valid range 0 to 4095 (inclusive)"
    ),
    ("fdb del br0 1 0200", "\"0200\" is not an Ethernet address; it looks like 02:00:00:00:00:01"),
    (
      "-t 0 show",
      "show: the timeout \"0\" is not a number of seconds above 0 and up to 86400; see ovx-ctl show --help"
    ),
    (
      "-f yaml show",
      "show: the value 'yaml' is invalid for '-f <format>'. Please provide one of 'table', 'list', "
        + "'json' or 'csv'; see ovx-ctl show --help"
    ),
  ])
  func complaints(line: String, sentence: String) {
    #expect(complaint(line) == sentence)
  }

  /// What a shell makes of a variable that is not set.
  @Test(arguments: [
    (
      ["--rundir", "", "show"],
      "show: --rundir is empty; name a directory, or leave it out for $OVX_RUNDIR, else /run/ovx; "
        + "see ovx-ctl show --help"
    ),
    (
      ["apply", "-f", ""],
      "there is no file; name one with -f FILE, or -f - for the standard input"
    ),
    (["", "br0"], "there is no command \"\"; ovx-ctl --help lists the commands"),
  ])
  func emptyWords(words: [String], sentence: String) {
    let error = #expect(throws: ControlError.self) { try Invocation(parsing: words) }
    #expect(error?.message == sentence)
  }

  // MARK: Help

  @Test func helpMentionsEveryCommand() throws {
    func help(_ line: String) -> String {
      do {
        _ = try parse(line)
        return ""
      } catch {
        return (error as? CleanExit)?.text ?? ""
      }
    }
    let text = help("--help")
    for verb in [
      "add-br", "del-br", "add-port", "del-port", "list-br", "br-exists", "list-ports",
      "port-to-br", "show",
      "attach", "detach", "set", "get", "list", "find", "add", "remove", "clear", "wait-until",
      "fdb", "neigh", "tunnel",
      "stats",
      "drops", "version", "exit", "apply", "diff", "export", "log", "top",
    ] {
      #expect(text.contains("\n  \(verb) ") || text.contains("\n  \(verb),"), "\(verb)")
      #expect(help("\(verb) --help").contains("USAGE: ovx-ctl"), "\(verb)")
    }
    for verb in ["show", "flush", "add", "del", "stats"] {
      #expect(help("fdb --help").contains("\n  \(verb)"), "fdb \(verb)")
      #expect(help("fdb \(verb) --help").contains("USAGE: ovx-ctl fdb \(verb)"), "fdb \(verb)")
    }
    for verb in ["show", "flush", "stats"] {
      #expect(help("neigh --help").contains("\n  \(verb)"), "neigh \(verb)")
      #expect(
        help("neigh \(verb) --help").contains("USAGE: ovx-ctl neigh \(verb)"), "neigh \(verb)")
    }
    for option in ["--rundir", "--timeout", "--format", "--dry-run", "--may-exist", "--if-exists"] {
      #expect(text.contains(option), "\(option)")
    }
    // Examples are printed as they are to be typed.
    for line in text.split(separator: "\n") where line.contains("    ovx-ctl ") {
      #expect(line.count <= 80)
    }
    #expect(help("--version") == "ovx-ctl \(OVXVersion.current)")
    #expect(help("-V") == "ovx-ctl \(OVXVersion.current)")
    #expect(help("--generate-completion-script bash").contains("complete"))
    // What its answer asks back: its "--" joins no commands, and of a daemon that is not there it
    // says nothing.
    let question = "---completion del-br -- positional@0 2 0 ovx-ctl --rundir /nowhere del-br"
    #expect(throws: CleanExit.self) { try parse(question) }
    #expect(help(question).isEmpty)
  }
}
