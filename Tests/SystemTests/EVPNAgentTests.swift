import Foundation
import Testing

extension SystemTests {
  /// ovx-evpn as a process: who else is there, and who may ask it.
  @Suite struct EVPNAgentTests {
    private static func start(_ host: Namespace) throws -> Command {
      try host.start(
        "exec \(try EVPNFabric.program()) --gobgp unix:\(host.rundir)/api.sock --rundir \(host.rundir)"
      )
    }

    @Test func aSecondOneIsRefusedAndNamesTheFirst() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        let first = try Self.start(host)
        try eventually("the first answers") {
          try host.ctl(["evpn", "show"]).succeeded
        }
        let second = try Self.start(host).finish(seconds: 10)
        #expect(second.status == 1)
        #expect(
          second.standardError.contains(
            "another ovx-evpn (process \(first.pid)) serves the switch"),
          "\(second)")
        // The first goes on; when it has gone there is room for another one.
        try host.ctl("evpn show")
        first.signal(SIGKILL)
        _ = first.wait(seconds: 5)
        let third = try Self.start(host)
        try eventually("the third answers") { try host.ctl(["evpn", "show"]).succeeded }
        #expect(third.isRunning)
      }
    }

    /// Whoever may use the daemon's socket may use that of ovx-evpn.
    @Test func theGroupOfTheDaemonsSocketMayAsk() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        // A group that each Debian has, and that no user of the test is in.
        try lab.daemon(on: host, arguments: ["--socket-group", "games"])
        let agent = try Self.start(host)
        func show(groups: String) throws -> Output {
          try host.run(
            "exec setpriv --reuid nobody --regid nogroup --groups \(groups) \(Lab.binaries)/ovx-ctl evpn show"
          )
        }
        try eventually("a member of the group is answered") { try show(groups: "games").succeeded }
        let stranger = try show(groups: "nogroup")
        #expect(stranger.status == 1 && agent.isRunning, "\(stranger)")
      }
    }
  }
}
