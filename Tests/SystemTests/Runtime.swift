import Foundation
import Glibc
import Testing

/// A container runtime as the CNI specification describes it, with calls made by hand.
///
/// Its plugins are ovx-cni under test and those of the Debian package containernetworking-plugins.
struct Runtime {
  let lab: Lab
  let host: Namespace
  static let others = "/usr/lib/cni"

  /// What a call came to.
  struct Outcome {
    var output: Output
    /// What was printed, as JSON; empty where nothing was.
    var json: [String: Any]

    var code: Int? { json["code"] as? Int }
    var message: String { json["msg"] as? String ?? "" }
    var text: String { output.standardOutput }
    var addresses: [String] {
      (json["ips"] as? [[String: Any]] ?? []).compactMap { $0["address"] as? String }
    }
    var interfaces: [[String: Any]] { json["interfaces"] as? [[String: Any]] ?? [] }
  }

  /// A network's configuration, for this host's daemon.
  func configuration(
    _ members: String = "", name: String = "red", version: String = "1.1.0", ipam: Bool = false
  ) -> String {
    let handOut = """
      , "ipam": {"type": "host-local", "dataDir": "\(leases)", "ranges": [[{"subnet": "172.17.42.0/24"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "172.17.42.2"}]}
      """
    return """
      {"cniVersion": "\(version)", "name": "\(name)", "type": "ovx-cni", "rundir": "\(host.rundir)"\
      \(members.isEmpty ? "" : ", " + members)\(ipam ? handOut : "")}
      """
  }

  /// Where host-local keeps what it has handed out.
  var leases: String { lab.directory.appendingPathComponent("leases-\(host.name)").path }

  /// The addresses that host-local has handed out.
  func leased(_ network: String = "red") -> [String] {
    let names = try? FileManager.default.contentsOfDirectory(atPath: "\(leases)/\(network)")
    return (names ?? []).filter { $0.contains(/^[0-9a-f.:]+$/) }.sorted()
  }

  /// Begins a call.
  func start(
    _ verb: String, _ container: String = "", in namespace: String = "", as interface: String = "",
    arguments: String = "", path: String? = nil, _ configuration: String
  ) throws -> Command {
    let file = lab.directory.appendingPathComponent("call-\(UUID().uuidString)").path
    try configuration.write(toFile: file, atomically: false, encoding: .utf8)
    return try Command(
      ["sh", "-c", "exec \"$0\" < \"$1\"", "\(Lab.binaries)/ovx-cni", file],
      environment: [
        "CNI_COMMAND": verb, "CNI_CONTAINERID": container, "CNI_NETNS": namespace,
        "CNI_IFNAME": interface, "CNI_ARGS": arguments,
        "CNI_PATH": path ?? "\(Lab.binaries):\(Self.others)",
      ])
  }

  /// Makes a call for a container, whose namespace has its name.
  func call(
    _ verb: String, _ container: Namespace, as interface: String = "eth0", arguments: String = "",
    path: String? = nil, _ configuration: String
  ) throws -> Outcome {
    try finish(
      start(
        verb, container.name, in: "/run/netns/\(container.name)", as: interface,
        arguments: arguments, path: path, configuration))
  }

  /// Makes a call that is about no container.
  func call(_ verb: String, path: String? = nil, _ configuration: String) throws -> Outcome {
    try finish(start(verb, path: path, configuration))
  }

  func finish(_ command: Command) throws -> Outcome {
    let output = try command.finish(seconds: 30)
    let data = Data(output.standardOutput.utf8)
    let json = try? JSONSerialization.jsonObject(with: data) as? [String: Any]
    #expect(
      output.standardOutput.isEmpty || json != nil, "no JSON: \(output.standardOutput)")
    #expect(output.succeeded || json?["code"] != nil, "\(output)")
    return Outcome(output: output, json: json ?? [:])
  }

  /// Makes a call that must succeed.
  @discardableResult
  func must(
    _ verb: String, _ container: Namespace, as interface: String = "eth0", arguments: String = "",
    _ configuration: String, sourceLocation: SourceLocation = #_sourceLocation
  ) throws -> Outcome {
    let outcome = try call(verb, container, as: interface, arguments: arguments, configuration)
    #expect(
      outcome.output.succeeded,
      "\(verb) \(container.name): \(outcome.text)\(outcome.output.standardError)",
      sourceLocation: sourceLocation)
    if verb != "ADD" { #expect(outcome.text.isEmpty, sourceLocation: sourceLocation) }
    return outcome
  }

  /// The ports that the plugin has made.
  func ports() throws -> [String] {
    try host.ctl("list-ports br0").split(separator: "\n").map(String.init)
      .filter { $0.contains("@") }
  }

  /// Fails the test where anything is left of containers.
  func expectNothing(
    of containers: [Namespace], sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    #expect(try ports() == [], sourceLocation: sourceLocation)
    #expect(leased() == [], sourceLocation: sourceLocation)
    for container in containers {
      let links = try container.must("ip -br link")
      #expect(!links.contains("eth0"), "\(links)", sourceLocation: sourceLocation)
    }
  }
}

/// The same configuration with what ADD has given.
func withResult(_ outcome: Runtime.Outcome, _ configuration: String) -> String {
  String(configuration.dropLast()) + ", \"prevResult\": \(outcome.text)}"
}
