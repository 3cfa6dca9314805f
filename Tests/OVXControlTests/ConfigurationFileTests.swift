import Foundation
import OVXDatapath
import OVXSimulation
import SystemPackage
import Testing

@testable import OVXControl
@testable import ovx_ctl

@Suite struct ConfigurationFileTests {
  private func read(_ text: String) throws -> Configuration {
    try ConfigurationFile(name: "net.yaml", bytes: Array(text.utf8)).configuration
  }

  /// The sentence with which a file is refused.
  private func refusal(
    _ bytes: [UInt8], sourceLocation: SourceLocation = #_sourceLocation
  ) -> String {
    do {
      let file = try ConfigurationFile(name: "net.yaml", bytes: bytes)
      Issue.record("accepted: \(file.configuration)", sourceLocation: sourceLocation)
      return ""
    } catch {
      return error.message
    }
  }

  private func refusal(
    _ text: String, sourceLocation: SourceLocation = #_sourceLocation
  ) -> String {
    refusal(Array(text.utf8), sourceLocation: sourceLocation)
  }

  // MARK: What a file means

  /// The same as the commands would make of it.
  @Test(arguments: [
    ("bridges: {}", []),
    ("\u{FEFF}bridges: {br0: }", ["add-br br0"]),
    (
      "bridges:\n  br0:\n  br1: {}\n  br2:\n    ports:\n",
      ["add-br br0", "add-br br1", "add-br br2"]
    ),
    (
      """
      # the example of the contract
      bridges:
        br0:
          address: [172.17.42.1/24]
          ports:
            br0:    { tag: 100 }
            veth1:  { tag: 100 }
            vxlan0: { type: vxlan, key: 100, remote: [192.168.5.3], tag: 100 }
      """,
      [
        "add-br br0", "set port br0 tag=100", "set interface br0 addresses=172.17.42.1/24",
        "add-port br0 veth1 tag=100",
        "add-port br0 vxlan0 tag=100 key=100 remote=192.168.5.3",
      ]
    ),
    (
      """
      bridges:
        br0:
          address: fd00::1/64
          other_config: {mac-aging-time: 60, note: "yes: 010"}
          external_ids: {owner: no, id: 0x1F, time: 12:30:00}
          ports:
            p1: {type: internal, mac: 52:54:00:12:34:56, mtu: 1400, address: [10.0.0.1/8, 10.0.0.2/8]}
            p2: {type: tap, trunks: [10, 20], vlan_mode: native-tagged, tag: 5}
            p5: {type: tap, other_config: {storm-control: 500}}
            p6: {type: tap, other_config: {storm-control: off}}
            p3: {type: tap, trunks: 7, interface: {external_ids: {iface-id: x y}}}
            p4: {type: tap, vlan_mode: dot1q-tunnel, tag: 9, cvlans: [1], other_config: {qinq-ethtype: 802.1q}}
            v6: {key: "0x0A", tag: 8, remote: [fd05::3, fd05::4], local: fd05::2, dst_port: 8472}
      """,
      [
        "add-br br0 -- set interface br0 addresses=fd00::1/64",
        "set bridge br0 other_config:mac-aging-time=60 other_config:note=\"yes:\\u0020010\"",
        "set bridge br0 external_ids={owner=no,id=0x1F,time=12:30:00}",
        "add-port br0 p1 type=internal mac=52:54:00:12:34:56 mtu=1400 addresses=10.0.0.1/8,10.0.0.2/8",
        "add-port br0 p2 type=tap trunks=10,20 vlan_mode=native-tagged tag=5",
        "add-port br0 p5 type=tap other_config:storm-control=500",
        "add-port br0 p6 type=tap other_config:storm-control=off",
        "add-port br0 p3 type=tap trunks=7",
        "set interface p3 external_ids:iface-id=\"x\\u0020y\"",
        "add-port br0 p4 type=tap vlan_mode=dot1q-tunnel tag=9 cvlans=1 other_config:qinq-ethtype=802.1q",
        "add-port br0 v6 key=0x0A tag=8 remote=fd05::3,fd05::4 local=fd05::2 dst_port=8472",
      ]
    ),
    (
      "{\"bridges\": {\"br0\": {\"ports\": {\"t\": {\"type\": \"tap\", \"tag\": 7}}}}}",
      ["add-br br0", "add-port br0 t type=tap tag=7"]
    ),
    (
      "bridges:\n  br0:\n    ports:\n      v: {options: {key: 7, remote_ip: '10.0.0.1,10.0.0.2'}}\n",
      ["add-br br0", "add-port br0 v key=7 remote=10.0.0.1,10.0.0.2"]
    ),
  ])
  func meaning(text: String, lines: [String]) throws {
    var bench = try Workbench()
    for line in lines { try bench.run(line) }
    #expect(try read(text) == bench.configuration)
  }

  /// A device that is not there yet is waited for, so that the same file means the same on every
  /// host at any time.
  @Test func aDeviceNeedNotBeThere() throws {
    var bench = try Workbench("add-br br0")
    let declared = try read("bridges: {br0: {ports: {nodevice: }}}")
    #expect(declared.ports["nodevice"]?.interface.type == .system)
    try bench.run([.apply(declared, declaresSwitch: false)])
    #expect(bench.notes == ["port nodevice waits until this host has a network device nodevice"])
  }

  // MARK: What is refused

  @Test(arguments: [
    ("", "net.yaml: the file is empty; \"bridges: {}\" stands for no bridges"),
    ("# nothing\n", "net.yaml: the file is empty; \"bridges: {}\" stands for no bridges"),
    (
      "br0",
      "net.yaml:1:1: the file is not a map; a file begins with \"bridges:\" and has the bridges' names below it"
    ),
    ("bridges:\n", "net.yaml:1:1: bridges has no value; \"bridges: {}\" stands for none"),
    ("bridges: ~", "net.yaml:1:1: bridges has no value; \"bridges: {}\" stands for none"),
    (
      "{}",
      "net.yaml:1:1: there is no \"bridges\" and no \"networks\"; a file begins with \"bridges:\" and has the bridges' names below it"
    ),
    (
      "bridge: {}",
      "net.yaml:1:1: the file has no \"bridge\"; did you mean bridges? its keys are switch, networks, bridges"
    ),
    (
      "networks:\n  red: {}\n",
      "net.yaml:2:3: network red needs a VNI, 1 to 16777215, such as vni=100"
    ),
    ("bridges: [br0]", "net.yaml:1:10: bridges is not a map; a name for each, such as br0:"),
    (
      "bridges:\n  br0:\n    adress: 10.0.0.1/8\n",
      "net.yaml:3:5: bridge br0 has no \"adress\"; did you mean address? its keys are address, routes, other_config, "
        + "external_ids, ports"
    ),
    (
      "bridges: {br0: {ports: {p: {tga: 1}}}}",
      "net.yaml:1:29: port p has no \"tga\"; did you mean tag? its keys are type, mac, key, remote, local, dst_port, "
        + "mtu, address, routes, tag, trunks, cvlans, vlan_mode, network, port_security, allowed_addresses, publish, options, other_config, external_ids, interface"
    ),
    (
      "bridges: {br0: {ports: {p: {interface: {tag: 1}}}}}",
      "net.yaml:1:41: interface of port p has no \"tag\"; its keys are other_config, external_ids"
    ),
    (
      "bridges: {br0: {ports: [p]}}",
      "net.yaml:1:24: ports of bridge br0 is not a map; a name for each, such as veth1: {tag: 100}"
    ),
    ("bridges: {br0: {ports: {p: tap}}}", "net.yaml:1:28: port p is not a map; such as {tag: 100}"),
    (
      "bridges: {a/b: {}}",
      "net.yaml:1:11: the bridge name \"a/b\" contains \"/\"; a name has 1 to 15 bytes and none of / : % and white space"
    ),
    (
      "bridges:\n  br0:\n    ports: {p: {}}\n  br1:\n    ports:\n      p: {}\n",
      "net.yaml:6:7: port p is there twice, in bridge br0 and in bridge br1; leave one out"
    ),
    // Values
    (
      "bridges: {br0: {ports: {br0: {tag: 5000}}}}",
      "net.yaml:1:36: tag of Port br0: 5000 is not in the valid range 0 to 4095 (inclusive)"
    ),
    (
      "bridges: {br0: {ports: {br0: {tag: 1e3}}}}",
      "net.yaml:1:36: tag of Port br0: \"1e3\" is not a valid integer; it is one from 0 to 4095"
    ),
    (
      "bridges: {br0: {ports: {br0: {tag: 1_0}}}}",
      "net.yaml:1:36: tag of Port br0: \"1_0\" is not a valid integer; it is one from 0 to 4095"
    ),
    (
      "bridges: {br0: {ports: {br0: {tag: 0x10}}}}",
      "net.yaml:1:36: tag of Port br0: \"0x10\" is not a valid integer; it is one from 0 to 4095"
    ),
    (
      "bridges: {br0: {ports: {br0: {tag: yes}}}}",
      "net.yaml:1:36: tag of Port br0: \"yes\" is not a valid integer; it is one from 0 to 4095"
    ),
    (
      "bridges: {br0: {ports: {br0: {tag: 08}}}}",
      "net.yaml:1:36: tag of port br0: 08 is an octal number to some and a decimal one to others; leave out the leading zero, or write \"08\" in quotes for a text"
    ),
    (
      "bridges: {br0: {external_ids: {id: 007}}}",
      "net.yaml:1:36: id of external_ids of bridge br0: 007 is an octal number to some and a decimal one to others; leave out the leading zero, or write \"007\" in quotes for a text"
    ),
    (
      "bridges: {br0: {ports: {br0: {tag: }}}}",
      "net.yaml:1:36: tag of port br0 has no value; leave the key out, or write \"\" in quotes for a text"
    ),
    (
      "bridges: {br0: {ports: {br0: {tag: null}}}}",
      "net.yaml:1:36: tag of port br0 has no value; leave the key out, or write \"null\" in quotes for a text"
    ),
    (
      "bridges: {br0: {ports: {br0: {tag: [1, 2]}}}}",
      "net.yaml:1:36: tag of port br0 takes one value, such as tag: 100"
    ),
    (
      "bridges: {br0: {ports: {br0: {trunks: {a: 1}}}}}",
      "net.yaml:1:39: trunks of port br0 is a list, such as [A, B], or one value"
    ),
    (
      "bridges: {br0: {ports: {br0: {trunks: [[1]]}}}}",
      "net.yaml:1:40: trunks of port br0 is a list of words, such as [A, B]"
    ),
    (
      "bridges: {br0: {other_config: x}}",
      "net.yaml:1:31: other_config of bridge br0 is a map, such as {NAME: TEXT}"
    ),
    (
      "bridges: {br0: {other_config: {a: [b]}}}",
      "net.yaml:1:35: a of other_config of bridge br0 is not one text"
    ),
    (
      "bridges: {br0: {ports: {t: {type: tap, mac: 525400123456}}}}",
      "net.yaml:1:45: mac of Interface t: \"525400123456\" is not an Ethernet address; it looks like 02:00:00:00:00:01"
    ),
    (
      "bridges: {br0: {address: 10.0.0.1}}",
      "net.yaml:1:26: addresses of Interface br0: \"10.0.0.1\" is not an address with the length of its prefix; it looks like 10.0.0.1/24 or fd00::1/64"
    ),
    (
      "bridges: {br0: {address: 224.0.0.1/8}}",
      "net.yaml:1:11: interface br0: address 224.0.0.1/8 cannot be the address of an interface; give it a unicast address"
    ),
    (
      "bridges: {br0: {address: 10.0.0.1/8, ports: {br0: {address: 10.0.0.2/8}}}}",
      "net.yaml:1:61: addresses of br0 is there twice; give it once"
    ),
    (
      "bridges: {br0: {ports: {v: {key: 7, remote: 10.0.0.1, options: {key: 8}}}}}",
      "net.yaml:1:64: options:key of v is there twice; give it once"
    ),
    (
      "bridges: {br0: {ports: {t: {type: tap, address: 10.0.0.1/8}}}}",
      "net.yaml:1:25: interface t: addresses are for internal interfaces, which the host talks by; give them to bridge br0, as those of interface br0"
    ),
    // Whole configurations
    (
      "bridges: {br0: {ports: {v: {key: 7}}}}",
      "net.yaml:1:25: tunnel v: it has no remote_ip; give it the address of the other host, or several separated by commas, for example options:remote_ip=192.168.5.3"
    ),
    // YAML
    ("bridges: {br0: {}, br0: {}}", "net.yaml:1:11: the key \"br0\" is there twice; give it once"),
    (
      "bridges:\n  br0:\n\tports: {}\n",
      "net.yaml:3:1: there is a tab, where YAML takes spaces only; indent with spaces"
    ),
    ("bridges: {br0: {}", "net.yaml:2:1: this is not YAML: did not find expected ',' or '}'"),
    (
      "bridges:\n  br0: ports: {}\n",
      "net.yaml:2:13: this is not YAML: mapping values are not allowed in this context"
    ),
    (
      "bridges: {}\n---\nbridges: {}\n",
      "net.yaml:2:1: a second document begins; a host's file is one, so take the \"---\" away"
    ),
    ("bridges: {br0: !!binary x}", "net.yaml:1:16: the tag binary is not taken; leave it out"),
    ("bridges: {br0: !foo {}}", "net.yaml:1:16: the tag !foo is not taken; leave it out"),
    ("bridges: {[a]: {}}", "net.yaml:1:11: a key of bridges is not a word; write KEY: VALUE"),
    (
      "bridges: &all {}",
      "net.yaml:1:10: anchors (&name) and aliases (*name) are not taken; write the value out, or \\x26 and \\x2A for the characters in a text in double quotes"
    ),
    ("bridges: *all", "net.yaml:1:10: this is not YAML: found undefined alias"),
    (
      "a: &x {}\nbridges: {<<: *x}\n",
      "net.yaml:2:15: anchors (&name) and aliases (*name) are not taken; write the value out, or \\x26 and \\x2A for the characters in a text in double quotes"
    ),
    (
      "bridges: {br0: \"\u{7}\"}",
      "net.yaml:1:17: there is a control character (U+0007); take it out, or write it with a backslash in double quotes"
    ),
    (
      "bridges: {br\u{FFFF}: {}}",
      "net.yaml:1:13: there is a character that YAML does not take (U+FFFF); take it out, or write it with a backslash in double quotes"
    ),
    (
      "bridges:\r\n  br0:\r\n\tports: {}\r\n",
      "net.yaml:3:1: there is a tab, where YAML takes spaces only; indent with spaces"
    ),
    (
      "bridges:\n  br\u{0}0: {}",
      "net.yaml:2:5: there is a control character (U+0000); take it out, or write it with a backslash in double quotes"
    ),
    (
      "bridges: {\"br\\0\": {}}",
      "net.yaml:1:11: the bridge name \"br?\" contains \"?\"; a name has 1 to 15 bytes and none of / : % and white space"
    ),
  ])
  func refusals(text: String, sentence: String) {
    #expect(refusal(text) == sentence)
  }

  @Test func bytesThatAreNoText() {
    #expect(
      refusal(Array("bridges:\n  é".utf8) + [0xFF])
        == "net.yaml:2:4: this is not UTF-8; save the file in that encoding")
    #expect(refusal([0xFF, 0xFE, 0x62, 0x00]).contains("is not UTF-8"))
    #expect(refusal([0xC0, 0x80]).contains("is not UTF-8"))
  }

  /// Files made to keep a reader busy, or to have it fall over.
  @Test(.timeLimit(.minutes(5)))
  func hugeAndDeepFiles() {
    let deep = String(repeating: "[", count: 300_000)
    #expect(refusal("bridges: " + deep).contains("nested too deeply"))
    #expect(refusal(String(repeating: "- ", count: 300_000)).contains("nested too deeply"))
    #expect(refusal("bridges: " + String(repeating: "{a: ", count: 200_000)).contains("net.yaml"))
    // A billion laughs, as values and as keys.
    var laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    for level in 1..<12 {
      let references = Array(repeating: "*a\(level - 1)", count: 9).joined(separator: ", ")
      laughs += "a\(level): &a\(level) [\(references)]\n"
    }
    #expect(refusal(laughs + "bridges: *a11\n").contains("anchors"))
    #expect(refusal(laughs + "? *a11\n: {}\n").contains("anchors"))
    // As many keys as fit.
    let keys = (0..<60_000).map { "k\($0): {}" }.joined(separator: "\n")
    #expect(refusal(keys).contains("the file has no \"k0\""))
  }

  @Test func aFileThatIsTooLarge() throws {
    let scratch = try Scratch()
    let path = scratch.path.appending("large.yaml").string
    try Data(repeating: 0x23, count: ConfigurationFile.byteLimit + 1).write(
      to: URL(fileURLWithPath: path))
    let error = #expect(throws: ControlError.self) { try ConfigurationFile(path: path) }
    #expect(error?.message.contains("has more than 1048576 bytes") == true)
  }

  /// Anything at all is read, or refused in a sentence of one line that begins with the file's
  /// name.
  @Test func anythingIsReadOrRefused() {
    var random = SeededRandom()
    let pieces = [
      "bridges", "br0", "ports", ":", ": ", "\n", "\n  ", "\n    ", "{", "}", "[", "]", ",", "- ",
      "? ", "&a ", "*a", "!!str ", "|", ">", "\"", "'", "#", "%", "@", "`", "tag", "100", "08",
      "~", "null", "---", "...", "\t", "\u{0}", "\u{2028}", "é", "key", "remote", "10.0.0.1", "<<",
    ]
    for _ in 0..<3000 {
      let count = Int.random(in: 0..<40, using: &random)
      let text =
        (Bool.random(using: &random) ? "bridges: " : "")
        + (0..<count).map { _ in pieces[Int.random(in: 0..<pieces.count, using: &random)] }.joined()
      do {
        _ = try ConfigurationFile(name: "net.yaml", bytes: Array(text.utf8))
      } catch {
        #expect(error.message.hasPrefix("net.yaml:"), "\(random) \(text)")
        #expect(!error.message.contains("\n"), "\(random) \(text)")
      }
    }
  }

  // MARK: There and back

  @Test func exportIsReadBack() throws {
    var random = SeededRandom()
    var sizes = 0
    for _ in 0..<200 {
      let configuration = RandomConfiguration.make(&random)
      try configuration.validate()
      sizes += configuration.ports.count
      var declared = configuration
      declared.ports = declared.ports.filter {
        $0.value.interface.attachment == nil && !configuration.isImplied($0.value)
      }
      let yaml = try ExportedFile(configuration: configuration).yaml
      #expect(throws: Never.self, "\(random)\n\(yaml)") { _ = try read(yaml) }
      #expect(try read(yaml) == declared, "\(random)\n\(yaml)")
      let json = try ExportedFile(configuration: configuration).json
      #expect(try read(json) == declared, "\(random)\n\(json)")
      // On the state that it was made of it changes nothing.
      var same = configuration
      let transaction = try Transaction.execute(
        [.apply(try read(yaml), declaresSwitch: false)], on: &same,
        live: LiveState(deviceExists: { _ in true }))
      #expect(transaction.replies == [.changes([])], "\(random)")
      #expect(same == configuration, "\(random)")
    }
    #expect(sizes > 500)
  }

  @Test func applyMakesAnyStateEqualToTheFile() throws {
    var random = SeededRandom()
    let live = LiveState(deviceExists: { _ in true })
    for _ in 0..<200 {
      let (old, new) = (RandomConfiguration.make(&random), RandomConfiguration.make(&random))
      var declared = new
      declared.ports = declared.ports.filter { $0.value.interface.attachment == nil }
      let attached = old.ports.filter { $0.value.interface.attachment != nil }
      var state = old
      do {
        let first = try Transaction.execute(
          [.apply(declared, declaresSwitch: true)], on: &state, live: live)
        #expect(state.bridges == declared.bridges, "\(random)")
        #expect(state.ports == declared.ports.merging(attached) { _, old in old }, "\(random)")
        #expect((first.replies == [.changes([])]) == (state == old), "\(random)")
        let second = try Transaction.execute(
          [.apply(declared, declaresSwitch: true)], on: &state, live: live)
        #expect(second.replies == [.changes([])], "\(random)")
      } catch {
        // Only a container that would lose its bridge or its network stands in the way.
        #expect(
          attached.values.contains { declared.bridges[$0.bridge] == nil || $0.network != nil },
          "\(random) \(error)")
        #expect(state == old, "\(random)")
      }
    }
  }
}
