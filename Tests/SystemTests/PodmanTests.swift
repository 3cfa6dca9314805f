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
        // The limits and the runtime are those that work without systemd and without CAP_SYS_RESOURCE, as in CI.
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
      func callAsFunction(_ words: String...) throws -> String {
        let output = try Command(
          ["nsenter", "--net=/run/netns/\(host.name)", "podman"] + words,
          environment: [
            "CONTAINERS_CONF": "\(directory)/containers.conf",
            "CONTAINERS_STORAGE_CONF": "\(directory)/storage.conf",
            "OVX_RUNDIR": host.rundir,
          ]
        ).finish(seconds: 30)
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
  }
}
