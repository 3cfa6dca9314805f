import Foundation
import Glibc
import Testing

extension SystemTests {
  /// Real containers: Docker with ovx-docker, two hosts and a network of the switch.
  @Suite struct DockerTests {
    /// A dockerd of one host, with images, networks and state of its own, and its driver.
    private final class Docker {
      let host: Namespace
      let directory: String
      /// The driver's name, which is the machine's and not the host's alone.
      let driver: String
      private var dockerd: Command?
      private var plugin: Command?

      private var plugins: String { "/run/docker/plugins/\(driver).sock" }

      init(_ lab: Lab, on host: Namespace) throws {
        self.host = host
        directory = lab.directory.appendingPathComponent("docker-\(host.name)").path
        driver = "ovx-\(host.name)"
        try FileManager.default.createDirectory(
          atPath: directory, withIntermediateDirectories: true)
        try startDriver()
        try startDaemon()
      }

      func startDriver() throws {
        plugin = try inside(["\(Lab.binaries)/ovx-docker", "--socket", plugins])
        try eventually("the driver listens") { FileManager.default.fileExists(atPath: plugins) }
      }

      /// The limits are those that work without systemd and without CAP_SYS_RESOURCE, as in CI.
      func startDaemon() throws {
        dockerd = try inside([
          "dockerd", "--data-root", "\(directory)/data", "--exec-root", "\(directory)/exec",
          "--pidfile", "\(directory)/pid", "-H", "unix://\(directory)/sock", "--bridge=none",
          "--iptables=false", "--ip6tables=false", "--userland-proxy=false",
          "--default-ulimit", "nofile=1024:4096", "--default-ulimit", "nproc=4096:4096",
        ])
        try eventually("dockerd answers", within: 30) { try run("info").succeeded }
      }

      /// Ends the driver as a crash would.
      func killDriver() {
        plugin?.signal(SIGKILL)
        _ = plugin?.wait(seconds: 5)
      }

      func stopDaemon() {
        dockerd?.signal(SIGTERM)
        _ = dockerd?.wait(seconds: 20)
      }

      /// Ends everything, and lets go of what Docker has mounted.
      func stop() {
        if let names = try? run("ps", "-aq").standardOutput.split(separator: "\n").map(String.init),
          !names.isEmpty
        {
          _ = try? run(["rm", "-f"] + names)
        }
        stopDaemon()
        plugin?.signal(SIGTERM)
        _ = plugin?.wait(seconds: 5)
        try? FileManager.default.removeItem(atPath: plugins)
        _ = try? Command([
          "sh", "-c", "grep -o \"$0/[^ ]*\" /proc/mounts | sort -r | xargs -r umount", directory,
        ]).finish(seconds: 10)
      }

      /// `ip netns exec` would hide the control groups that a container runtime needs.
      private func inside(_ words: [String]) throws -> Command {
        try Command(
          ["nsenter", "--net=/run/netns/\(host.name)"] + words,
          environment: [
            "OVX_RUNDIR": host.rundir,
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
          ])
      }

      func run(_ words: String...) throws -> Output { try run(words) }

      func run(_ words: [String]) throws -> Output {
        try inside(["/usr/bin/docker", "-H", "unix://\(directory)/sock"] + words)
          .finish(seconds: 60)
      }

      /// Runs docker, which must succeed; gives what it printed.
      @discardableResult
      func callAsFunction(_ words: String...) throws -> String {
        let output = try run(words)
        guard output.succeeded else {
          throw LabError("docker \(words): \(output.standardOutput)\(output.standardError)")
        }
        return output.standardOutput.trimmingCharacters(in: .whitespacesAndNewlines)
      }

      /// Has Docker make a network of one of the switch, with its addresses, which it may refuse.
      func create(_ network: String, _ more: [String] = []) throws -> Output {
        try run(
          [
            "network", "create", "-d", driver, "-o", "network=\(network)", "--ipam-driver", driver,
            "--ipam-opt", "network=\(network)",
          ] + more + [network])
      }

      /// Makes a network of Docker of one of the switch, with its addresses.
      func use(_ network: String, _ more: String...) throws {
        let output = try create(network, more)
        guard output.succeeded else { throw LabError("\(output)") }
      }

      /// Starts a container that stays.
      func start(_ name: String, in network: String, _ more: String...) throws {
        let output = try run(
          ["run", "-d", "--name", name, "--network", network] + more
            + ["busybox", "/bin/sleep", "1000"])
        guard output.succeeded else { throw LabError("\(output)") }
      }

      /// Whether a container gets answers from an address; the first may be lost while neighbors
      /// find each other.
      func pings(_ address: String, from name: String) throws -> Bool {
        try run("exec", name, "/bin/ping", "-c", "3", "-W", "1", address).standardOutput
          .contains(/[23] packets received/)
      }
    }

    @Test func twoTenantsOnTwoHosts() throws {
      try Lab.run { lab in
        // A container's namespace takes its veth with it before its port goes.
        lab.expectLog("waits")
        let archive = try lab.containerImage()
        let (host1, host2) = try lab.twoHosts()
        var dockers: [Docker] = []
        defer { for docker in dockers { docker.stop() } }
        for (number, host) in [(1, host1), (2, host2)] {
          try lab.daemon(on: host)
          try host.ctl(
            "set switch . local_ip=\(Family.ipv4.address(number)) remotes=\(Family.ipv4.address(3 - number))"
          )
          for (network, vni) in [("red", 100), ("blue", 200)] {
            try host.ctl(
              "add-net \(network) vni=\(vni) subnet=172.17.42.0/24 range=172.17.42.\(number)0-172.17.42.\(number)9"
            )
          }
          let docker = try Docker(lab, on: host)
          dockers.append(docker)
          try docker("import", archive, "busybox")
          try docker.use("red", "--subnet", "172.17.42.0/24")
          try docker.use("blue")
        }
        let (near, far) = (dockers[0], dockers[1])
        for network in ["red", "blue"] {
          try near.start("\(network)1", in: network)
          try far.start("\(network)2", in: network)
        }
        for network in ["red", "blue"] {
          let addresses = try near("exec", "\(network)1", "/bin/ip", "addr", "show", "eth0")
          #expect(
            addresses.contains("172.17.42.10/24") && addresses.contains("mtu 1450"), "\(addresses)")
          #expect(try near.pings("172.17.42.20", from: "\(network)1"))
        }
        try far("rm", "-f", "red2")
        #expect(try !near.pings("172.17.42.20", from: "red1"), "blue's has the same address")
        #expect(try near.pings("172.17.42.20", from: "blue1"))

        // An address that is asked for, and one that is somebody's.
        try far.start("red3", in: "red", "--ip", "172.17.42.99")
        #expect(try near.pings("172.17.42.99", from: "red1"))
        let taken = try near.run(
          "run", "--rm", "--network", "red", "--ip", "172.17.42.99", "busybox", "/bin/ip", "addr")
        #expect(
          !taken.succeeded && taken.standardError.contains("in use in network red"), "\(taken)")
        let published = try near.run(
          "run", "--rm", "--network", "red", "-p", "80:80", "busybox", "/bin/ip", "addr")
        #expect(
          !published.succeeded && published.standardError.contains("network red has no gateway"),
          "\(published)")

        // Restarts, of each part.
        near.killDriver()
        #expect(try near.pings("172.17.42.99", from: "red1"))
        try near.startDriver()
        try near("restart", "-t", "0", "red1")
        #expect(try near.pings("172.17.42.99", from: "red1"))
        _ = try #require(lab.daemons.first).stop(SIGKILL)
        try lab.daemon(on: host1)
        try eventually("traffic flows again") { try near.pings("172.17.42.99", from: "red1") }
        near.stopDaemon()
        try near.startDaemon()
        #expect(try host1.ctl("list-ports br0").split(separator: "\n") == ["vni100", "vni200"])
        try near("start", "red1")
        #expect(try near.pings("172.17.42.99", from: "red1"))

        let used = try near.run("network", "rm", "red")
        #expect(!used.succeeded)
        for docker in dockers {
          for name in try docker("ps", "-aq").split(separator: "\n") {
            try docker("rm", "-f", String(name))
          }
          try docker("network", "rm", "red", "blue")
        }
        for host in [host1, host2] {
          #expect(try host.ctl("get network red reserved external_ids") == "[]\n{}\n")
          #expect(try host.ctl("list-ports br0").split(separator: "\n") == ["vni100", "vni200"])
          #expect(try !host.must("ip -br link").contains(/d[kc][0-9a-f]{12}/))
        }

        // A network that Docker makes, and what is not understood.
        try near(
          "network", "create", "-d", near.driver, "-o", "vni=300", "--subnet", "10.3.0.0/24",
          "green")
        #expect(
          try near("run", "--rm", "--network", "green", "busybox", "/bin/ip", "addr").contains(
            "10.3.0.2/24"))
        try near("network", "rm", "green")
        #expect(try host1.ctl("list-nets") == "blue\nred\n")
        for (words, part) in [
          ([], "-o network=NAME"), (["-o", "vni=9", "-o", "colour=7"], "no option \"colour\""),
          (["-o", "network=nope"], "no network nope"),
          (["-o", "vni=100"], "which is network red's"),
          (["-o", "network=red", "--ipam-driver", near.driver], "--ipam-opt network=NAME"),
        ] as [([String], String)] {
          let output = try near.run(["network", "create", "-d", near.driver] + words + ["bad"])
          #expect(!output.succeeded && output.standardError.contains(part), "\(words): \(output)")
        }
      }
    }

    @Test func portsArePublished() throws {
      try Lab.run { lab in
        lab.expectLog("waits")
        let archive = try lab.containerImage()
        let site = try GatewayTests.Site(
          lab, networks: [("red", 100), ("blue", 200)], settings: "nat=masquerade")
        defer { for index in 0...1 { site.stop(index, SIGTERM) } }
        let host = site.hosts[0]
        let docker = try Docker(lab, on: host)
        defer { docker.stop() }
        try docker("import", archive, "busybox")
        for network in ["red", "blue"] { try docker.use(network, "--subnet", "172.17.42.0/24") }
        func serve(_ name: String) throws {
          try docker(
            "exec", "-d", name, "/bin/busybox", "nc", "-ll", "-p", "80", "-e", "/bin/busybox",
            "echo",
            "this is \(name)")
        }
        func expectAnswer(_ place: String, from client: Namespace, _ word: String) throws {
          try eventually("\(place) is \(word)") {
            try client.run("timeout 2 socat -u TCP:\(place),connect-timeout=1 -").standardOutput
              .contains(word)
          }
        }
        try docker.start("web", in: "red", "-p", "8080:80", "-p", "203.0.113.1:8443:80/tcp")
        try docker.start("shop", in: "blue", "-p", "8081:80")
        for name in ["web", "shop"] { try serve(name) }
        for (port, name) in [("8080", "web"), ("8443", "web"), ("8081", "shop")] {
          try expectAnswer("203.0.113.1:\(port)", from: site.outside, "this is \(name)")
        }
        try expectAnswer("127.0.0.1:8080", from: host, "this is web")
        // Whose it is stands in the sentence, and nothing is left of who has not got it.
        for (words, part) in [
          (["-p", "8080:80"], "publishes 8080:80/tcp"),
          (["-p", "80"], "name one, as in -p 8080:80"),
          (["-p", "8000-8010:80"], "name one, as in -p 8080:80"),
        ] as [([String], String)] {
          let refused = try docker.run(
            ["run", "--name", "third", "--network", "blue"] + words + [
              "busybox", "/bin/ip", "addr",
            ])
          #expect(!refused.succeeded && refused.standardError.contains(part), "\(refused)")
          try docker("rm", "-f", "third")
        }
        try host.ctl("set network red gateway_mode=distributed")
        #expect(try host.ctl("find port publish!=[]").contains("8081:80/tcp"))
        #expect(
          try host.ctl("list-ports br0").split(separator: "\n").count { $0.hasPrefix("dk") } == 2)

        // Restarts, of each part: a container with the same address has the same Ethernet address,
        // which others know.
        try docker("restart", "-t", "0", "web")
        try serve("web")
        try expectAnswer("203.0.113.1:8080", from: site.outside, "this is web")
        docker.killDriver()
        site.stop(0, SIGKILL)
        try expectAnswer("203.0.113.1:8080", from: site.outside, "this is web")
        try docker.startDriver()
        try site.start(0)
        docker.stopDaemon()
        try docker.startDaemon()
        try docker("start", "web")
        try serve("web")
        try expectAnswer("203.0.113.1:8080", from: site.outside, "this is web")

        // A second network with a gateway takes none of them, and leaves none behind.
        _ = try lab.announcedNamespace("r0-green")
        try host.ctl("add-net green vni=300 subnet=10.3.0.0/24 gateway=10.3.0.1")
        try docker.use("green", "--subnet", "10.3.0.0/24")
        try docker("network", "connect", "green", "web")
        try expectAnswer("203.0.113.1:8080", from: site.outside, "this is web")
        try docker("rm", "-f", "web", "shop")
        #expect(try host.ctl("find port publish!=[]") == "")
        try eventually("nothing is led any more") {
          try !host.must("nft list ruleset").contains(/dport (80|808\d|8443)\b/)
        }
        try docker("network", "rm", "red", "blue", "green")
      }
    }

    /// Docker takes no subnet by itself that a route of the host leads into, and asks for the next
    /// one.
    @Test func aSubnetThatTheHostHasARouteToIsToBeTyped() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        try host.ctl("add-net red vni=100 subnet=172.17.42.0/24")
        try host.must("ip link set lo up && ip route add 172.17.0.0/16 dev lo")
        let docker = try Docker(lab, on: host)
        defer { docker.stop() }
        let refused = try docker.create("red")
        #expect(!refused.succeeded)
        #expect(
          refused.standardError.contains(
            "the host's route to 172.17.0.0/16, so Docker would ask for another one for ever; type --subnet 172.17.42.0/24"
          ), "\(refused)")
        try docker.use("red", "--subnet", "172.17.42.0/24")
        try docker("network", "rm", "red")
        try host.must("ip route del 172.17.0.0/16 dev lo")
        try docker.use("red")
        try docker("network", "rm", "red")
      }
    }

    @Test(arguments: ["veth", "tap"]) func interfacesOfEitherKind(_ kind: String) throws {
      try Lab.run { lab in
        lab.expectLog("waits")
        let archive = try lab.containerImage()
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        try host.ctl("add-net red vni=100 subnet=172.17.42.0/24 range=172.17.42.10-172.17.42.19")
        let docker = try Docker(lab, on: host)
        defer { docker.stop() }
        try docker("import", archive, "busybox")
        let devices = try host.must("ip -br link")
        try docker.use("red", "--subnet", "172.17.42.0/24", "-o", "kind=\(kind)")
        try docker.start("red1", in: "red")
        try docker.start(
          "red2", in: "red", "--ip", "172.17.42.99", "--mac-address", "02:00:00:00:00:99")
        #expect(try docker.pings("172.17.42.99", from: "red1"))
        #expect(
          try docker("exec", "red2", "/bin/ip", "link", "show", "eth0").contains(
            "02:00:00:00:00:99"))
        let types = try host.ctl("--columns=type find interface name!=br0")
        #expect(types.contains("tap") == (kind == "tap"), "\(types)")

        try docker("restart", "-t", "0", "red2")
        #expect(try docker.pings("172.17.42.99", from: "red1"))
        docker.killDriver()
        #expect(try docker.pings("172.17.42.99", from: "red1"))
        try docker.startDriver()
        _ = try #require(lab.daemons.first).stop(SIGKILL)
        try lab.daemon(on: host)
        // A TAP that has been moved is nobody's then.
        if kind == "tap" {
          for name in ["red1", "red2"] { try docker("restart", "-t", "0", name) }
        }
        try eventually("traffic flows again") { try docker.pings("172.17.42.99", from: "red1") }
        try docker("network", "disconnect", "red", "red1")
        try docker("network", "connect", "red", "red1")
        #expect(try docker.pings("172.17.42.99", from: "red1"))
        docker.stopDaemon()
        try docker.startDaemon()
        #expect(try host.ctl("list-ports br0") == "")
        for name in ["red1", "red2"] { try docker("start", name) }
        #expect(try docker.pings("172.17.42.99", from: "red1"))
        try docker("rm", "-f", "red1", "red2")
        try docker("network", "rm", "red")
        #expect(try host.ctl("list-ports br0") == "")
        #expect(try host.ctl("get network red reserved external_ids") == "[]\n{}\n")
        // The bridge's own device has come with the network.
        func names(_ text: String) -> [Substring] {
          text.split(separator: "\n").compactMap { $0.split(separator: " ").first }
        }
        try eventually("no device is left") {
          try names(host.must("ip -br link")) == names(devices)
        }
        let strange = try docker.run(
          "network", "create", "-d", docker.driver, "-o", "network=red", "-o", "kind=macvlan",
          "--subnet",
          "172.17.42.0/24", "red")
        #expect(
          strange.standardError.contains("it is veth, which is usual, or tap"), "\(strange)")
      }
    }
  }
}
