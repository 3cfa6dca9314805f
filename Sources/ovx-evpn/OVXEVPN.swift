internal import ArgumentParser
private import Glibc
private import OVXControl
private import OVXEVPN
private import SystemPackage

/// The agent for EVPN: stands between the switch of this host and gobgpd, which speaks BGP.
@main
struct OVXEVPN: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ovx-evpn",
    abstract: "Has ovx's networks served by BGP EVPN.",
    discussion: """
      Started beside ovx-vswitchd and gobgpd, it tells other hosts by EVPN of the stations of this one, and the switch of \
      theirs, for each network that names no remotes of its own:

        ovx-ctl set switch . control_plane=evpn local_ip=192.168.5.2
        ovx-ctl add-net red vni=100 subnet=172.17.42.0/24
        ovx-ctl evpn show

      Ended, it takes nothing back: the switch keeps what it was told for the hold time, and gobgpd goes on telling of \
      this host, until it is started again.
      """,
    version: OVXVersion.current)

  @Option(
    help: ArgumentHelp("Where gobgpd answers: unix:SOCKET.", valueName: "engine"))
  var gobgp = "unix:/run/gobgpd/api.sock"

  @Option(help: "The run directory of the daemon (default: OVX_RUNDIR, or /run/ovx).")
  var rundir = ControlSocket.runDirectoryOfEnvironment

  private var engineSocket: String { String(gobgp.dropFirst("unix:".count)) }

  func validate() throws {
    guard gobgp.hasPrefix("unix:"), engineSocket.hasPrefix("/") else {
      throw ValidationError(
        "--gobgp \(gobgp) is not a socket of this host; type unix:/run/gobgpd/api.sock, and start gobgpd with "
          + "--api-hosts unix:///run/gobgpd/api.sock")
    }
    guard engineSocket.utf8.count <= ControlSocket.pathLimit else {
      throw ValidationError(
        "--gobgp names a path that is longer than \(ControlSocket.pathLimit) bytes")
    }
  }

  static func main() { ProcessStart.serve { await main($0) } }

  func run() async throws {
    umask(0o077)
    // What it says goes to a log whose reader may have gone.
    signal(SIGPIPE, SIG_IGN)
    Self.goBehindTheSwitch()
    let core = Core()
    do throws(ControlError) {
      try AnswerService(core, runDirectory: rundir).start()
      try SwitchSide(core, runDirectory: rundir).start()
    } catch {
      _ = try? FileDescriptor.standardError.writeAll("ovx-evpn: \(error.message)\n".utf8)
      throw ExitCode(1)
    }
    await EngineSide(core, socket: engineSocket).run()
  }

  /// Lets the switch have the processor first where there is not enough of it for both.
  ///
  /// Linux shares a core among sessions before it does among threads (CONFIG_SCHED_AUTOGROUP), and
  /// has been seen to leave threads of one for a tenth of a second and more while two threads of
  /// another wake each other in turns, as those do that take in routes. A session that is not this
  /// process's own has others in it, and is left alone.
  private static func goBehindTheSwitch() {
    guard getsid(0) == getpid() else { return }
    // There is no such file where the kernel does not do that, and then nothing to be done.
    let path = FilePath("/proc/self/autogroup")
    guard let file = try? FileDescriptor.open(path, .writeOnly) else { return }
    _ = try? file.closeAfter { try file.writeAll("10".utf8) }
  }
}
