internal import ArgumentParser
private import FlyingSocks
private import Foundation
internal import OVXControl
private import OVXDatapath

/// Shows the switch of this host to Prometheus and to people: metrics, and a page.
@main
struct OVXExporter: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ovx-exporter",
    abstract: "Metrics of the switch for Prometheus, and a page to look at.",
    discussion: """
      It only asks: a user who may read the daemon's socket may run it. What it serves:

        /          a page with networks, ports, tunnels, rates and losses
        /metrics   OpenMetrics, or the text format of Prometheus for those that do not ask for it
        /healthz   200 while the exporter runs
        /readyz    200 while the switch answers, else 503

      The page is for this host: under a name other than localhost it is not shown, only under an address.
      """,
    version: OVXVersion.current)

  @Option(help: "Address and port to listen on: 127.0.0.1:9475, [::1]:9475.")
  var listen = ListenAddress(host: "127.0.0.1", port: 9475)

  @Option(help: "The run directory of the daemon (default: OVX_RUNDIR, or /run/ovx).")
  var rundir = ProcessInfo.processInfo.environment["OVX_RUNDIR"] ?? "/run/ovx"

  static func main() { ProcessStart.serve { await main($0) } }

  func run() async throws {
    let service = Service(SwitchReader(ControlClient(runDirectory: rundir)))
    let listener: HTTPListener
    do {
      listener = try await HTTPListener(listen)
    } catch let error as SocketError {
      let reason =
        if case .failed(_, _, let message) = error { message } else { "\(error)" }
      let sentence =
        "ovx-exporter: cannot listen on \(listen): \(reason); name another address or port with --listen\n"
      try? FileHandle.standardError.write(contentsOf: Data(sentence.utf8))
      throw ExitCode(1)
    }
    try await listener.run(service)
  }
}

/// Where to listen.
struct ListenAddress: Equatable, ExpressibleByArgument, CustomStringConvertible {
  /// An address without brackets.
  var host: String
  var port: UInt16

  init(host: String, port: UInt16) {
    self.host = host
    self.port = port
  }

  init?(argument: String) {
    guard let colon = argument.lastIndex(of: ":"),
      let port = UInt16(argument[argument.index(after: colon)...])
    else { return nil }
    let host = argument[..<colon]
    let isBracketed = host.hasPrefix("[") && host.hasSuffix("]")
    self.init(host: String(isBracketed ? host.dropFirst().dropLast() : host), port: port)
    guard isBracketed == self.host.contains(":"), IPAddress(self.host) != nil else { return nil }
  }

  var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}
