import Foundation
import Glibc
import Testing

extension SystemTests {
  /// Real containers of containerd, by `ctr run --cni` with ovx-cni.
  @Suite struct ContainerdTests {
    /// A containerd of one host, whose clients find plugins and networks of their own.
    private final class Containerd {
      let host: Namespace
      private let directory: String
      private let daemon: Command
      private var runs: [String: Command] = [:]

      /// Starts it, with a network of CNI in the place of all that the machine has.
      init(_ lab: Lab, on host: Namespace, network: String) throws {
        self.host = host
        directory = lab.directory.appendingPathComponent("containerd-\(host.name)").path
        for name in ["root", "state", "upper-etc", "work-etc", "upper-opt", "work-opt"] {
          try FileManager.default.createDirectory(
            atPath: "\(directory)/\(name)", withIntermediateDirectories: true)
        }
        // ctr has no options for these places.
        try """
        set -e
        mount --make-rprivate /
        for place in etc opt; do
          mount -t overlay -o lowerdir=/$place,upperdir=\(directory)/upper-$place,workdir=\(directory)/work-$place \\
            overlay /$place
        done
        mkdir -p /etc/cni/net.d /opt/cni/bin
        rm -f /etc/cni/net.d/*
        echo '\(network)' >/etc/cni/net.d/10-ovx.conflist
        ln -sf \(Lab.binaries)/ovx-cni \(Runtime.others)/* /opt/cni/bin/
        exec "$@"
        """.write(toFile: "\(directory)/enter", atomically: true, encoding: .utf8)
        daemon = try Command([
          "nsenter", "--net=/run/netns/\(host.name)", "containerd", "--root", "\(directory)/root",
          "--state", "\(directory)/state", "--address", "\(directory)/socket", "--log-level",
          "warn",
        ])
        try eventually("containerd answers", within: 30) {
          try self.ctr("version").finish(seconds: 10).succeeded
        }
      }

      private func ctr(_ words: String...) throws -> Command {
        // Control groups are hidden by `ip netns exec`.
        try Command(
          [
            "nsenter", "--net=/run/netns/\(host.name)", "unshare", "--mount", "sh",
            "\(directory)/enter", "ctr", "--address", "\(directory)/socket",
          ] + words)
      }

      /// Starts a container that does nothing, and waits until it has its interface.
      func run(_ name: String, root: String) throws {
        let run = try ctr("run", "--rm", "--cni", "--rootfs", root, name, "/bin/sleep", "1000")
        runs[name] = run
        try eventually("\(name) runs on \(host.name)", within: 20) {
          guard run.isRunning else { throw LabError(run.standardOutput + run.standardError) }
          return try (self.exec(name, "/bin/ip", "addr")).contains("eth0")
        }
      }

      func exec(_ name: String, _ words: String...) throws -> String {
        let command = try Command(
          [
            "ctr", "--address", "\(directory)/socket", "tasks", "exec", "--exec-id",
            UUID().uuidString, name,
          ] + words)
        return try command.finish(seconds: 20).standardOutput
      }

      /// Ends a container as if its program had crashed, and waits for ctr, which has its network
      /// taken away then.
      func end(_ name: String) throws {
        _ = try ctr("tasks", "kill", "-s", "SIGKILL", name).finish(seconds: 20)
        let output = runs.removeValue(forKey: name)?.wait(seconds: 20)
        guard let output, output.status == 137 else {
          throw LabError(
            "ctr run ended with \(output?.status ?? -1): \(output?.standardError ?? "")")
        }
      }

      func stop() {
        for name in runs.keys.sorted() { try? end(name) }
        daemon.signal(SIGTERM)
        _ = daemon.wait(seconds: 10)
      }
    }

    @Test func aNetworkOnTwoHosts() throws {
      try Lab.run { lab in
        // A container's namespace may go before its port does.
        lab.expectLog("waits")
        let archive = try lab.containerImage()
        let root = lab.directory.appendingPathComponent("image").path
        #expect(FileManager.default.fileExists(atPath: archive))
        let (host1, host2) = try lab.twoHosts()
        var engines: [Containerd] = []
        defer { for engine in engines { engine.stop() } }
        for (number, host) in [(1, host1), (2, host2)] {
          try lab.daemon(on: host)
          try host.ctl("set switch . local_ip=\(Family.ipv4.address(number))")
          try host.ctl(
            "add-net red vni=100 subnet=172.17.42.0/24 range=172.17.42.\(number)0-172.17.42.\(number)9 remotes=\(Family.ipv4.address(3 - number))"
          )
          engines.append(
            try Containerd(
              lab, on: host,
              network: """
                {"cniVersion": "1.0.0", "name": "red", "plugins": [
                  {"type": "ovx-cni", "network": "red", "rundir": "\(host.rundir)"}, {"type": "tuning"}]}
                """))
        }
        try engines[0].run("web", root: root)
        try engines[1].run("db", root: root)
        let links = try engines[1].exec("db", "/bin/ip", "addr")
        #expect(links.contains("172.17.42.20/24") && links.contains("mtu 1450"), "\(links)")
        let pings = try engines[0].exec("web", "/bin/ping", "-c", "4", "-W", "2", "172.17.42.20")
        #expect(pings.contains(/[34] packets received/), "\(pings)")

        // It goes on while the switch is away, and what is taken away meanwhile is taken away.
        _ = try lab.daemons[0].stop(SIGKILL)
        try lab.daemon(on: host1)
        try eventually("web is reached again") {
          try engines[0].exec("web", "/bin/ping", "-c", "1", "-W", "1", "172.17.42.20")
            .contains("1 packets received")
        }
        // DEL comes when the namespace has gone, and without its name.
        try engines[0].end("web")
        try engines[1].end("db")
        for host in [host1, host2] {
          try eventually("nothing is left on \(host.name)") {
            try host.ctl("get network red status:addresses_used") == "0\n"
              && !host.ctl("list-ports br0").contains("eth0")
          }
        }
        // The address is free for the next one.
        try engines[0].run("next", root: root)
        #expect(try engines[0].exec("next", "/bin/ip", "addr").contains("172.17.42.1"))
        try engines[0].end("next")
      }
    }
  }
}
