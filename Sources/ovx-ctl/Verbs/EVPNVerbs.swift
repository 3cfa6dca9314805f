internal import ArgumentParser
private import Glibc
internal import OVXControl

// What ovx-evpn knows, which has a socket of its own beside the daemon's.

struct EVPNCommands: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "evpn", abstract: "What other hosts tell by EVPN, and what they are told.",
    subcommands: [ShowEVPN.self, ShowEVPNRoutes.self, ShowEVPNVTEPs.self, UnfreezeStation.self])
}

/// A verb that is asked of ovx-evpn.
protocol EVPNVerb: OngoingVerb {}

extension EVPNVerb {
  /// Asks, and prints the answer.
  ///
  /// - Throws: That no ovx-evpn is there, or what it answers.
  func run(_ command: Command, _ options: GlobalOptions.Values) throws(ControlError) {
    let replies: [Reply]
    do throws(ControlError) {
      let socket = EVPNSocket.path(in: options.runDirectory)
      replies = try ControlClient(socket: socket).replies(to: [command], timeout: options.timeout)
    } catch {
      guard error.kind == .unavailable else { throw error }
      throw ControlError(
        "ovx-evpn does not answer in \(options.runDirectory); start it with ovx-evpn, beside gobgpd, or name "
          + "its directory with --rundir", kind: .unavailable)
    }
    guard let reply = replies.first else { return }
    let text = try Output(options, command: command).text(of: reply)
    guard Invocation.write(text, to: STDOUT_FILENO) else { throw ControlError.unwritten("answer") }
  }
}

struct ShowEVPN: EVPNVerb {
  static let configuration = CommandConfiguration(
    commandName: "show",
    abstract: "Print the engine, its peers, and the networks that EVPN serves.")

  @OptionGroup var global: GlobalOptions

  func command() -> Command { .showEVPN }
}

struct ShowEVPNRoutes: EVPNVerb {
  static let configuration = CommandConfiguration(
    commandName: "routes",
    abstract: "Print the routes of a network, or of all: this host's, and those of others.")

  @OptionGroup var global: GlobalOptions
  @Argument(help: "The network.", completion: .networks) var network: String?

  func command() -> Command { .showEVPNRoutes(network: network) }
}

struct ShowEVPNVTEPs: EVPNVerb {
  static let configuration = CommandConfiguration(
    commandName: "vteps", abstract: "Print the other hosts of a network, or of all.")

  @OptionGroup var global: GlobalOptions
  @Argument(help: "The network.", completion: .networks) var network: String?

  func command() -> Command { .showEVPNVTEPs(network: network) }
}

struct UnfreezeStation: EVPNVerb {
  static let configuration = CommandConfiguration(
    commandName: "unfreeze",
    abstract: "Let a station move again that has moved too often.")

  @OptionGroup var global: GlobalOptions
  @Argument(help: "The network.", completion: .networks) var network: String
  @Argument(help: ArgumentHelp("The station's Ethernet address.", valueName: "mac")) var mac: String

  func command() throws -> Command {
    .unfreezeStation(network: network, mac: try Command.address(mac))
  }
}
