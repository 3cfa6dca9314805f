internal import ArgumentParser
private import Glibc
internal import OVXControl
private import OVXDatapath

struct Doctor: OngoingVerb {
  static let configuration = CommandConfiguration(
    commandName: "doctor",
    abstract:
      "Look for what is wrong with the switch, its tunnels and this host, and say what to do.",
    discussion: """
      Looks at ports, networks, the way and the MTU to each remote and whether it is there (ping), at a packet filter \
      that keeps VXLAN out (nft), at who can send or read tenants' packets, at the kernel's features, the clock, and \
      losses that come of wrong settings. It changes nothing, and takes up to 2 seconds.

      Each line begins with ok, note (worth knowing) or FAULT. With a fault the exit status is 1.
      """)

  @OptionGroup var global: GlobalOptions

  func command() throws -> Command {
    guard [nil, .table, .json].contains(global.format) else {
      throw ControlError("doctor prints text, or JSON with -f json; take -f away")
    }
    return .show
  }

  /// Examines, and prints what was found.
  ///
  /// - Throws: How many faults there are, or that no daemon answers.
  func run(_ command: Command, _ options: GlobalOptions.Values) throws(ControlError) {
    let findings = try Self.diagnose(options).findings
    let text =
      options.format == .json
      ? try Output.encode(findings) : findings.map(\.line).joined()
    guard Invocation.write(text, to: STDOUT_FILENO) else {
      throw ControlError.unwritten("findings")
    }
    let faults = findings.count { $0.verdict == .fault }
    guard faults == 0 else {
      throw ControlError("\(faults) \(faults == 1 ? "thing is" : "things are") wrong")
    }
  }

  private static func diagnose(_ options: GlobalOptions.Values) throws(ControlError) -> Diagnosis {
    let replies = try options.client.replies(
      to: [
        .show, .showTunnels, .drops, .showNetworks(network: nil), .showAddresses(bridges: []),
      ], timeout: options.timeout)
    guard case .show(let show) = replies[0], case .tunnels(let tunnels) = replies[1],
      case .drops(let drops) = replies[2], case .networks(let networks) = replies[3],
      case .addresses(let addresses) = replies[4]
    else {
      throw ControlError("the daemon has answered something else than it was asked for")
    }
    let heard = addresses.flatMap(\.entries).compactMap { entry in
      entry.age.map { $0 <= 60 } == true ? entry.remote : nil
    }
    var diagnosis = Diagnosis(
      show: show, tunnels: tunnels, drops: drops, networks: networks, heard: Set(heard))
    diagnosis.host = HostFacts(
      asking: diagnosis.remotes,
      devices: Set(tunnels.tunnels.flatMap(\.remotes).compactMap(\.device)),
      ports: Set(tunnels.tunnels.map(\.destinationPort)))
    return diagnosis
  }
}
