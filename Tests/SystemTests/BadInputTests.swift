import Foundation
import Testing

/// A line that must be refused, how ovx-ctl ends, and words that its sentence must hold.
struct Refusal: CustomTestStringConvertible {
  var words: [String]
  var status: Int32 = 1
  var names: [String]

  init(_ line: String, status: Int32 = 1, names: String...) {
    // '' stands for an empty word, as in a shell.
    words = line.split(separator: " ").map { $0 == "''" ? "" : String($0) }
    self.status = status
    self.names = names
  }

  var testDescription: String { words.joined(separator: " ") }
}

extension SystemTests {
  /// What is refused: one sentence naming culprit and remedy, the right exit status, and nothing
  /// changed.
  @Suite struct BadInputTests {
    static let refusals: [Refusal] = [
      Refusal("frobnicate", names: "frobnicate"),
      Refusal("add-br", names: "add-br"),
      Refusal("-f xml show", names: "xml", "json"),
      Refusal("-t never show", names: "never"),
      // Bridges
      Refusal("add-br br0", names: "br0"),
      Refusal("add-br ''", names: "name"),
      Refusal("add-br sixteen-bytes-ab", names: "sixteen-bytes-ab", "15"),
      Refusal("add-br a/b", names: "a/b", "/"),
      Refusal("add-br ..", names: ".."),
      Refusal("del-br nobridge", names: "nobridge"),
      Refusal("list-ports nobridge", names: "nobridge"),
      Refusal("port-to-br noport", names: "noport"),
      // The host would be cut off: its addresses would be on br0, in another VLAN.
      Refusal("set interface used1 addresses=10.9.9.9/24", names: "used1", "br0", "VLAN 100"),
      // What can never come true is not waited for.
      Refusal("wait-until nothing br0", names: "nothing", "Bridge, Port, Interface"),
      Refusal("wait-until port br9 colour=red", names: "colour", "tag"),
      Refusal("wait-until port br9 tag=ten", names: "tag", "ten"),
      Refusal("wait-until interface br9 tag:key=5", names: "tag"),
      Refusal("wait-until bridge br0 -- list-ports nobridge", names: "nobridge"),
      // Ports
      Refusal("add-port nobridge free1", names: "nobridge"),
      Refusal("add-port br0 nodevice", names: "nodevice", "internal", "tap", "vxlan"),
      Refusal("add-port br0 used1", names: "used1", "br0"),
      Refusal("add-port br1 used1", names: "used1", "br0"),
      Refusal("--may-exist add-port br1 used1", names: "used1", "br0"),
      Refusal("del-port br1 used1", names: "used1", "br0"),
      Refusal("del-port noport", names: "noport"),
      Refusal("del-port br0 br0", names: "br0"),
      Refusal("add-port br0 free1 tag=4096", names: "4096", "4095"),
      Refusal("add-port br0 free1 tag=-1", names: "-1"),
      Refusal("add-port br0 free1 tag=ten", names: "ten"),
      Refusal("add-port br0 free1 trunks=[1,5000]", names: "5000"),
      Refusal("add-port br0 free1 vlan_mode=sideways", names: "sideways", "access", "trunk"),
      Refusal("add-port br0 free1 mac=00:11:22", names: "00:11:22"),
      Refusal("add-port br0 free1 mac=01:00:5e:00:00:01", names: "01:00:5e:00:00:01"),
      Refusal("add-port br0 free1 mtu=12", names: "12"),
      Refusal("add-port br0 free1 colour=red", names: "colour"),
      Refusal("add-port br0 free1 tag", names: "tag"),
      Refusal("add-port br0 a/b type=tap", names: "a/b"),
      Refusal("add-port br0 sixteen-bytes-ab type=tap", names: "sixteen-bytes-ab", "15"),
      Refusal("add-port br0 x type=quantum", names: "quantum", "vxlan"),
      // Tunnels
      Refusal(
        "add-port br0 x key=16777216 remote=192.168.5.9 tag=9",
        names: "16777216",
        "16777215"
      ),
      Refusal("add-port br0 x key=red remote=192.168.5.9 tag=9", names: "red"),
      Refusal("add-port br0 x key=9 remote=192.168.0.300 tag=9", names: "192.168.0.300"),
      Refusal("add-port br0 x key=9 remote=224.0.0.1 tag=9", names: "224.0.0.1"),
      Refusal("add-port br0 x key=9 remote=192.168.5.9,fd05::9 tag=9", names: "fd05::9"),
      Refusal("add-port br0 x key=9 remote=192.168.5.9,192.168.5.9 tag=9", names: "192.168.5.9"),
      Refusal("add-port br0 x key=9 remote= tag=9", names: "remote"),
      Refusal("add-port br0 x key=9 type=vxlan tag=9", names: "remote"),
      Refusal("add-port br0 x key=9 remote=192.168.5.9 dst_port=65536 tag=9", names: "65536"),
      Refusal("add-port br0 x key=200 remote=192.168.5.9 tag=100", names: "200", "100"),
      Refusal("add-port br0 x key=200 remote=192.168.5.9", names: "200", "100"),
      Refusal("add-port br1 x key=100 remote=192.168.5.9 tag=100", names: "100", "br0"),
      Refusal("add-port br0 jumbo tag=100 mtu=9000", names: "jumbo", "9000", "1450"),
      // Containers
      Refusal("attach br0 nocontainer eth0 tag=100", names: "nocontainer"),
      Refusal("attach br0 pid:0 eth0 tag=100", names: "pid:0"),
      Refusal("attach br0 pid:4194305 eth0 tag=100", names: "4194305"),
      Refusal("attach br0 /etc/passwd eth0 tag=100", names: "/etc/passwd"),
      Refusal("attach br0 CONTAINER eth0 ip=172.17.42.300/24", names: "172.17.42.300"),
      Refusal("attach br0 CONTAINER eth0 ip=172.17.42.9/33", names: "33"),
      Refusal("attach br0 CONTAINER eth0 gateway=nowhere", names: "nowhere"),
      Refusal("attach br0 CONTAINER lo", names: "lo"),
      Refusal("attach br0 CONTAINER sixteen-bytes-ab", names: "sixteen-bytes-ab", "15"),
      Refusal("attach br0 CONTAINER eth0", names: "tag=", "trunks="),
      Refusal("attach br0 CONTAINER eth0 tag=", names: "tag", "[]"),
      Refusal("--may-exist add-port br0 used1 tag=", names: "tag", "[]"),
      Refusal("set Port used1 tag=", names: "tag", "[]"),
      Refusal("add-port br0 free1 key= remote=10.0.0.9", names: "options:key"),
      Refusal("init", names: "init", "database"),
      Refusal("detach CONTAINER eth7", names: "eth7"),
      // Tables
      Refusal("set Nothing br0 tag=1", names: "Nothing", "Bridge"),
      Refusal("set Port noport tag=1", names: "noport"),
      Refusal("set Port used1 tga=1", names: "tga"),
      Refusal("set Port used1 tag=4096", names: "4096", "4095"),
      Refusal("set Port used1 tag", names: "tag"),
      Refusal("set Port used1 name=other", names: "name"),
      Refusal("set Interface vxlan0 options:key=16777216", names: "16777216"),
      Refusal("set Interface vxlan0 options:remote_ip=x", names: "x"),
      Refusal("get Port used1 nocolumn", names: "nocolumn"),
      Refusal("list Nothing", names: "Nothing"),
      Refusal("clear Port used1 name", names: "name"),
      // Seeing
      Refusal("fdb show nobridge", names: "nobridge"),
      Refusal("fdb add br0 used1 0 zz:00:00:00:00:01", names: "zz:00:00:00:00:01"),
      Refusal("fdb add br0 noport 0 02:00:00:00:00:01", names: "noport"),
      Refusal("fdb add br0 used1 0 ff:ff:ff:ff:ff:ff", names: "ff:ff:ff:ff:ff:ff"),
      Refusal("stats noport", names: "noport"),
      // What is refused in the end is not begun.
      Refusal("add-br half -- fdb del br0 100 02:00:00:00:00:99", names: "02:00:00:00:00:99"),
      Refusal("fdb del br0 100 02:00:00:00:00:99 -- log set debug", names: "02:00:00:00:00:99"),
      Refusal(
        "fdb add br0 used1 100 02:00:00:00:00:98 -- fdb del br0 100 02:00:00:00:00:99",
        names: "02:00:00:00:00:99"),
      Refusal(
        "fdb del br0 100 02:00:00:00:00:97 -- fdb del br0 100 02:00:00:00:00:99",
        names: "02:00:00:00:00:99"),
      Refusal(
        "add-br half -- trace br0 noport arp,src=02:00:00:00:00:01,ip_dst=10.0.0.2",
        names: "noport"),
      Refusal("--confirm-within 30 exit --cleanup", names: "exit --cleanup", "--confirm-within"),
      Refusal("--confirm-within 30 fdb flush br0", names: "fdb flush", "--confirm-within"),
      Refusal("net", names: "show"),
      Refusal("add-br lo", names: "choose another name"),
      Refusal(
        "add-net big vni=999 remotes=192.168.5.3 mtu_request=9000", names: "mtu_request", "1450"),
      Refusal("log set loud", names: "loud", "debug"),
      Refusal("top -n 0", names: "-n"),
      // Files
      Refusal("apply", names: "-f"),
      Refusal("apply -f /nonexistent.yaml", names: "/nonexistent.yaml"),
      Refusal("diff -f /dev/null", names: "/dev/null", "bridges"),
      Refusal("apply -f /dev/zero", names: "/dev/zero", "1048576"),
      Refusal("-f csv export", names: "csv", "json"),
      Refusal("set interface vxlan0 addresses=10.0.0.1/24", names: "vxlan0", "internal"),
      Refusal("set interface br0 addresses=10.0.0.1", names: "10.0.0.1", "/24"),
      // Frames
      Refusal("trace nobridge used1 arp,src=02:00:00:00:00:01", names: "nobridge"),
      Refusal("trace br0 noport arp,src=02:00:00:00:00:01", names: "noport"),
      Refusal("trace br1 used1 arp,src=02:00:00:00:00:01", names: "used1", "br0", "br1"),
      Refusal("trace br0 used1 arp,colour=red", names: "colour", "src", "tun_src"),
      Refusal("trace br0 used1 arp,src=02:00", names: "src=02:00", "02:00:00:00:00:01"),
      Refusal(
        "trace br0 used1 arp,src=02:00:00:00:00:01,tun_src=192.0.2.1", names: "used1", "tunnel"),
      Refusal("trace br0 used1 00112", names: "5", "two"),
      Refusal("capture noport", names: "noport"),
      Refusal("capture used1 hosst 1", names: "hosst 1", "pcap-filter"),
      Refusal("capture used1 -c none", names: "none", "-c"),
      Refusal("capture used1 -s 0", names: "0", "-s", "262144"),
      Refusal("capture used1 -- show", names: "capture"),
      // Transactions: what comes before the mistake is not done either.
      Refusal("add-br br7 -- add-port br7 nodevice", names: "nodevice"),
      Refusal("del-port used1 -- del-port noport", names: "noport"),
      Refusal("set Port used1 tag=7 -- set Port used1 tag=4096", names: "4096"),
      Refusal("add-br br7 -- frobnicate", names: "frobnicate"),
    ]

    @Test func refusedWithOneSentenceAndNoChange() throws {
      try Lab.run { lab in
        let host = try lab.twoHosts().0
        try lab.overlay(on: host, vni: 100, remotes: [2], tag: 100)
        try host.ctl("add-br br1")
        try host.must(
          """
          for name in used1 free1; do ip link add $name mtu 1450 type veth peer name $name-peer; done
          ip link add jumbo mtu 9000 type veth peer name jumbo-peer mtu 9000
          ip link set jumbo up
          """
        )
        try host.ctl("add-port br0 used1 tag=100")
        try host.ctl("fdb add br0 used1 100 02:00:00:00:00:97")
        let container = try lab.namespace("red1")
        func state() throws -> String {
          try host.must(
            """
            ovx-ctl show
            ovx-ctl -f json show
            ovx-ctl list Interface --columns=name,type,options,mac,mtu_request
            ovx-ctl list Port
            ovx-ctl list Bridge
            ovx-ctl log show
            ovx-ctl fdb show br0 | grep static || true
            ip -o link | sed 's/qlen.*//'
            ip -n \(container.name) -o link
            """)
        }
        let before = try state()
        for refusal in Self.refusals {
          let words = refusal.words.map { $0 == "CONTAINER" ? container.name : $0 }
          for dryRun in [true, false] {
            let output = try host.ctl((dryRun ? ["--dry-run"] : []) + words)
            let context: Comment = "\(refusal.testDescription), dry run \(dryRun): \(output)"
            #expect(output.status == refusal.status, context)
            #expect(output.standardOutput.isEmpty, context)
            for name in refusal.names {
              #expect(output.standardError.contains(name), "names \(name)? \(context)")
            }
            let sentence = output.standardError.trimmingCharacters(in: .newlines)
            #expect(!sentence.contains("\n"), "one line? \(context)")
            let after = try state()
            if after != before {
              throw LabError(
                "What was refused has changed something: \(context)\nBefore:\n\(before)\nAfter:\n\(after)"
              )
            }
          }
        }
      }
    }

    @Test func noDaemon() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let output = try host.ctl(["show"])
        #expect(output.status == 69)
        #expect(output.standardError.contains("\(host.rundir)/vswitchd.sock"), "\(output)")
        // A socket that a killed daemon has left is no daemon either.
        try lab.daemon(on: host).stop(SIGKILL)
        let second = try host.ctl(["show"])
        #expect(second.status == 69)
        #expect(second.standardError.contains("\(host.rundir)/vswitchd.sock"), "\(second)")
      }
    }

    @Test func noPermission() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        try host.ctl("add-br br0")
        // A copy, because the build may lie where only its owner can read.
        let output = try host.run(
          """
          cp "$(command -v ovx-ctl)" \(host.rundir)/
          exec setpriv --reuid=65534 --regid=65534 --clear-groups \(host.rundir)/ovx-ctl del-br br0
          """
        )
        #expect(output.status == 1, "\(output)")
        #expect(output.standardError.contains("vswitchd.sock"), "\(output)")
        #expect(output.standardError.localizedCaseInsensitiveContains("permission"), "\(output)")
        #expect(try host.ctl("list-br") == "br0\n")
        let mode = try host.must("stat -c %a \(host.rundir)/vswitchd.sock")
        #expect(mode == "660\n")
      }
    }

    /// Standard output that is full, and a reader that has seen enough.
    @Test func outputThatNobodyTakes() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        for line in ["show", "--help", "-fjson top -n1 -d0.1"] {
          let output = try host.run("ovx-ctl \(line) >/dev/full")
          #expect(output.status == 1, "\(line): \(output)")
          #expect(output.standardError.contains("No space left on device"), "\(line): \(output)")
        }
        for line in ["drops --watch", "top -d0.1", "monitor bridge", "events --follow"] {
          let output = try host.run(
            "bash -c 'ovx-ctl \(line) | head -1; echo ${PIPESTATUS[0]}'")
          #expect(output.standardOutput.hasSuffix("\n141\n"), "\(line): \(output)")
          #expect(output.standardError.isEmpty, "\(line): \(output)")
        }
      }
    }

    @Test func garbageOnTheSocket() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let daemon = try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let before = try host.ctl("-f json show")
        let memory = try residentKilobytes(daemon)
        try host.must(
          "python3 $TRAFFIC/garbage.py \(host.rundir)/vswitchd.sock \(Int.random(in: 0..<1000))",
          seconds: 60
        )
        #expect(try host.ctl("-f json show") == before)
        #expect(try residentKilobytes(daemon) < memory + 20_000)
      }
    }

    private func residentKilobytes(_ daemon: Daemon) throws -> Int {
      let status = try String(contentsOfFile: "/proc/\(daemon.process.pid)/status", encoding: .utf8)
      let match = try #require(status.firstMatch(of: /VmRSS:\s+(\d+) kB/))
      return try #require(Int(match.1))
    }

    /// Asking twice is no error where the operator says so.
    @Test func idempotence() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        try host.must("ip link add free1 type veth peer name free1-peer")
        try host.ctl("add-br br0")
        try host.ctl("--may-exist add-br br0")
        try host.ctl("--if-exists del-br nobridge")
        try host.ctl("add-port br0 free1")
        try host.ctl("--may-exist add-port br0 free1")
        try host.ctl("--if-exists del-port noport")
        #expect(try host.ctl("list-ports br0") == "free1\n")
        #expect(try host.ctl(["br-exists", "br0"]).status == 0)
        let no = try host.ctl(["br-exists", "nobridge"])
        #expect(no.status == 2 && no.standardError.isEmpty)
        #expect(try host.ctl("port-to-br free1") == "br0\n")
        try host.ctl("del-port free1 -- add-port br0 free1 -- del-port free1")
        #expect(try host.ctl("list-ports br0") == "")
        try host.ctl("del-br br0")
        #expect(try host.ctl("list-br") == "")
        #expect(try !host.run("ip link show br0").succeeded)
        #expect(try host.run("ip link show free1").succeeded)
      }
    }
  }
}
