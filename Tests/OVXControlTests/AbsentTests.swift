import OVXControl
import Testing

@testable import ovx_ctl

/// What ovx has not, and mistyped words.
@Suite struct AbsentTests {
  private func complaint(_ line: String) -> String {
    do {
      _ = try Invocation(parsing: line.split(separator: " ").map(String.init))
      return ""
    } catch {
      return "\(error)"
    }
  }

  @Test(arguments: [
    ("init", "makes its database"), ("emer-reset", "leave it out"),
    ("set-controller br0 tcp:127.0.0.1", "standalone"), ("get-controller br0", "standalone"),
    ("set-manager ptcp:6640", "--rundir"),
    ("add-bond br0 bond0 eth1 eth2 lacp=active", "type bond"),
    ("add-flow br0 actions=normal", "trunks"), ("dump-flows br0", "trace"),
    ("ofproto/trace br0 in_port=1", "trace"), ("dpif/show", "trunks"), ("dump-ports br0", "stats"),
    ("stp/show", "no spanning tree"), ("add-mirror br0 m", "capture"), ("bond/show", "no bonds"),
    ("coverage/show", "drops"), ("addbr br0", "add-br"),
    ("list-zone-tp netdev", "nftables"), ("addif br0 veth1", "add-port"),
    ("showmacs br0", "fdb show"), ("ovs-vsctl add-br br0", "leave the word out"),
    ("--may-exist add-bond br0 b e1 e2", "no bonds"),
    ("add-bond br0 b e1 e2 --strange", "no bonds"),
  ])
  func foreignCommands(line: String, hint: String) {
    let sentence = complaint(line)
    #expect(sentence.contains("there is no command") && sentence.contains(hint), "\(sentence)")
  }

  @Test(arguments: [
    "ini", "init", "exi", "ext", "exot", "quit", "exti", "del-bt", "del-por", "dell-br", "detacht",
    "delbr br0", "delif br0 veth1", "clea", "remov", "destro", "flush", "appl", "exit --cleanu",
    "exit --clenup", "exit --clean", "fdb flus", "stop", "restart",
  ])
  func nothingThatDestroysIsSuggested(line: String) {
    let sentence = complaint(line)
    #expect(!sentence.isEmpty)
    if let guess = sentence.firstMatch(of: /[Dd]id you mean '?([^'?]+)/) {
      #expect(!Absent.neverSuggested.contains(String(guess.1)), "\(line): \(sentence)")
    }
  }

  @Test(arguments: [
    ("add-brr br0", "add-br"), ("sho", "show"), ("list-prots br0", "list-ports"),
    ("drosp", "drops"),
  ])
  func mistypedCommands(line: String, command: String) {
    #expect(complaint(line).contains("did you mean \(command)?"), "\(complaint(line))")
  }

  @Test(arguments: [
    ("show --json", "-f json"), ("--json show", "-f json"), ("show -o json", "-f json"),
    ("-o json show", "-f json"), ("show --output=json", "-f json"),
  ])
  func otherOptions(line: String, option: String) {
    #expect(complaint(line).contains("type \(option)"), "\(complaint(line))")
  }
}
