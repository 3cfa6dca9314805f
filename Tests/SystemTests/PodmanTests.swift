import Foundation
import Glibc
import Testing

extension SystemTests {
  /// Real containers: podman with ovx-cni, two hosts and a tunnel.
  @Suite struct PodmanTests {
    /// A podman of one host, with images, networks and state of its own.
    private struct Podman {
      let host: Namespace
      let directory: String

      /// Sets it up in the lab's directory, with one network "red" beside podman's own.
      init(_ lab: Lab, on host: Namespace, network: String) throws {
        self.host = host
        directory = lab.directory.appendingPathComponent("podman-\(host.name)").path
        for name in ["net", "tmp", "static", "root", "runroot"] {
          try FileManager.default.createDirectory(
            atPath: "\(directory)/\(name)", withIntermediateDirectories: true)
        }
        // The limits and the runtime are those that work without systemd and without
        // CAP_SYS_RESOURCE, as in CI.
        try write(
          "containers.conf",
          """
          [containers]
          default_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]
          [engine]
          runtime = "runc"
          cgroup_manager = "cgroupfs"
          events_logger = "file"
          tmp_dir = "\(directory)/tmp"
          static_dir = "\(directory)/static"
          [network]
          network_backend = "cni"
          network_config_dir = "\(directory)/net"
          cni_plugin_dirs = ["\(Lab.binaries)", "\(Runtime.others)"]
          """)
        try write(
          "storage.conf",
          """
          [storage]
          driver = "vfs"
          graphroot = "\(directory)/root"
          runroot = "\(directory)/runroot"
          """)
        try write("net/red.conflist", network)
      }

      private func write(_ name: String, _ text: String) throws {
        try text.write(toFile: "\(directory)/\(name)", atomically: false, encoding: .utf8)
      }

      /// Runs podman, which must succeed; gives what it printed.
      ///
      /// `ip netns exec` would hide the control groups that a container runtime needs.
      @discardableResult
      func callAsFunction(_ words: String...) throws -> String { try call(words) }

      /// What a command line begins with.
      var words: [String] { ["nsenter", "--net=/run/netns/\(host.name)", "podman"] }

      var environment: [String: String] {
        [
          "CONTAINERS_CONF": "\(directory)/containers.conf",
          "CONTAINERS_STORAGE_CONF": "\(directory)/storage.conf",
          "OVX_RUNDIR": host.rundir,
        ]
      }

      func call(_ words: [String]) throws -> String {
        let output = try Command(self.words + words, environment: environment)
          .finish(seconds: 30)
        guard output.succeeded else {
          throw LabError("podman \(words): \(output.standardOutput)\(output.standardError)")
        }
        return output.standardOutput.trimmingCharacters(in: .whitespacesAndNewlines)
      }
    }

    @Test func containersOnTwoHosts() throws {
      try Lab.run { lab in
        // A container's namespace may go before its port does.
        lab.expectLog("waits")
        let archive = try lab.containerImage()
        let (host1, host2) = try lab.twoHosts()
        var podmans: [Podman] = []
        // Where the test fails before its end, containers would outlive it.
        defer { for podman in podmans { _ = try? podman("rm", "-f", "-a", "-t", "0") } }
        for (number, host) in [(1, host1), (2, host2)] {
          try lab.daemon(on: host)
          try host.ctl("add-br br0")
          try host.ctl(
            "add-port br0 vxlan100 tag=100 key=100 remote=\(Family.ipv4.address(3 - number))")
          let podman = try Podman(
            lab, on: host,
            network: """
              {"cniVersion": "1.0.0", "name": "red", "plugins": [
                {"type": "ovx-cni", "vni": 100, "rundir": "\(host.rundir)", "capabilities": {"mac": true, "ips": true},
                 "ipam": {"type": "host-local", "dataDir": "\(lab.directory.path)/leases\(number)",
                   "ranges": [[{"subnet": "172.17.42.0/24", "rangeStart": "172.17.42.\(number)0",
                                "rangeEnd": "172.17.42.\(number)9", "gateway": "172.17.42.1"}]],
                   "routes": [{"dst": "0.0.0.0/0"}]}},
                {"type": "tuning"}]}
              """)
          try podman("import", "-q", archive, "busybox")
          podmans.append(podman)
        }
        #expect(try podmans[0]("network", "ls").contains("ovx-cni"))
        try podmans[0](
          "run", "-d", "--name", "web", "--network", "red", "busybox", "/bin/sleep", "1000")
        try podmans[1](
          "run", "-d", "--name", "db", "--network", "red:ip=172.17.42.25,mac=02:00:00:00:00:25",
          "busybox", "/bin/sleep", "1000")
        let address = try podmans[0](
          "inspect", "-f", "{{(index .NetworkSettings.Networks \"red\").IPAddress}}", "web")
        #expect(address == "172.17.42.10")
        let links = try podmans[1]("exec", "db", "/bin/ip", "addr")
        #expect(
          links.contains("02:00:00:00:00:25") && links.contains("172.17.42.25/24"), "\(links)")
        #expect(links.contains("mtu 1450"), "\(links)")
        // The first may be lost while neighbors find each other.
        let pings = try podmans[0]("exec", "web", "/bin/ping", "-c", "4", "-W", "2", "172.17.42.25")
        #expect(pings.contains(/[34] packets received/), "\(pings)")
        try podmans[1]("exec", "db", "/bin/ping", "-c", "1", "-W", "2", address)

        // A restart gives the container another namespace, and podman another DEL and ADD.
        try podmans[1]("restart", "-t", "0", "db")
        try podmans[0]("exec", "web", "/bin/ping", "-c", "3", "-W", "2", "172.17.42.25")
        try podmans[0]("rm", "-f", "-t", "0", "web")
        try podmans[1]("rm", "-f", "-t", "0", "db")
        for (number, host) in [(1, host1), (2, host2)] {
          #expect(try host.ctl("list-ports br0") == "vxlan100\n")
          let leases = try FileManager.default.contentsOfDirectory(
            atPath: lab.directory.appendingPathComponent("leases\(number)/red").path)
          #expect(!leases.contains { $0.hasPrefix("172.") }, "\(leases)")
        }
      }
    }

    /// Networks of ovx, which give addresses by themselves: two tenants with the same ones, and
    /// ports of the host that lead to one of them.
    @Test func networksOfTwoTenants() throws {
      try Lab.run { lab in
        lab.expectLog("waits")
        let archive = try lab.containerImage()
        let site = try GatewayTests.Site(
          lab, networks: [("red", 100), ("blue", 200)], settings: "nat=masquerade")
        defer { for index in 0...1 { site.stop(index, SIGTERM) } }
        var podmans: [Podman] = []
        defer { for podman in podmans { _ = try? podman("rm", "-f", "-a", "-t", "0") } }
        for host in site.hosts {
          func network(_ name: String) -> String {
            """
            {"cniVersion": "1.0.0", "name": "\(name)", "plugins": [
              {"type": "ovx-cni", "network": "\(name)", "rundir": "\(host.rundir)",
               "capabilities": {"mac": true, "ips": true, "portMappings": true}}]}
            """
          }
          let podman = try Podman(lab, on: host, network: network("red"))
          try network("blue").write(
            toFile: "\(podman.directory)/net/blue.conflist", atomically: true, encoding: .utf8)
          try podman("import", "-q", archive, "busybox")
          podmans.append(podman)
        }
        func run(_ name: String, in network: String, on index: Int, _ more: String...) throws {
          _ = try podmans[index].call(
            ["run", "-d", "--name", name, "--network", network] + more
              + ["busybox", "/bin/sleep", "1000"])
        }
        func address(_ name: String, in network: String, on index: Int) throws -> String {
          try podmans[index](
            "inspect", "-f", "{{(index .NetworkSettings.Networks \"\(network)\").IPAddress}}", name)
        }
        try run("web", in: "red", on: 0, "-p", "8080:80")
        try run("db", in: "red:ip=172.17.42.25,mac=02:00:00:00:00:25", on: 1)
        // The same addresses, of another tenant.
        try run("other", in: "blue", on: 0)
        let web = try address("web", in: "red", on: 0)
        #expect(web == "172.17.42.10")
        #expect(try address("other", in: "blue", on: 0) == web)
        let pings = try podmans[1]("exec", "db", "/bin/ping", "-c", "4", "-W", "2", web)
        #expect(pings.contains(/[34] packets received/), "\(pings)")
        #expect(throws: LabError.self) {
          try podmans[0]("exec", "other", "/bin/ping", "-c", "1", "-W", "1", "172.17.42.25")
        }
        // The way out, and the way in.
        try eventually("web gets outside") {
          (try? podmans[0]("exec", "web", "/bin/ping", "-c", "1", "-W", "1", "198.51.100.1")) != nil
        }
        #expect(try site.hosts[0].ctl("net show red").contains("published: 8080:80/tcp"))
        let service = try Command(
          podmans[0].words + [
            "exec", "web", "/bin/busybox", "nc", "-l", "-p", "80", "-e", "/bin/busybox", "echo",
            "hello",
          ],
          environment: podmans[0].environment)
        defer { service.signal(SIGTERM) }
        try eventually("the port of the host leads to web") {
          try site.outside.run("timeout 2 socat -u TCP:203.0.113.1:8080,connect-timeout=1 -")
            .standardOutput.contains("hello")
        }

        try podmans[1]("restart", "-t", "0", "db")
        #expect(try address("db", in: "red", on: 1) == "172.17.42.25")
        try podmans[0]("exec", "web", "/bin/ping", "-c", "3", "-W", "2", "172.17.42.25")
        try podmans[0]("rm", "-f", "-t", "0", "web", "other")
        try podmans[1]("rm", "-f", "-t", "0", "db")
        for (index, host) in site.hosts.enumerated() {
          for network in ["red", "blue"] {
            #expect(
              try !host.ctl("net show \(network)").contains("Port eth0"), "\(index) \(network)")
          }
        }
        try eventually("nothing of the host leads anywhere") {
          try !site.hosts[0].must("nft list table inet ovx").contains("8080")
        }
      }
    }
  }
}
