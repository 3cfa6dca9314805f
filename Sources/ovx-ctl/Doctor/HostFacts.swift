private import CCapture
private import Foundation
private import Glibc
internal import OVXControl
internal import OVXDatapath
private import OVXLinux

/// What `doctor` sees of the host by itself.
struct HostFacts: Equatable {
  /// Whether remotes answer ping; those that were not asked are left out.
  var answers: [IPAddress: Bool] = [:]
  /// What of the packet filter keeps VXLAN from passing.
  var barriers: [FilterBarrier] = []
  /// Devices that encrypt what leaves by them.
  var encryptingDevices: Set<String> = []
  /// `nil` where the kernel does not tell.
  var isClockSynchronized: Bool?
  /// What could not be looked at, sentences without a full stop.
  var omissions: [String] = []

  /// Remotes that are asked at most; each is asked by a process of its own.
  static let askLimit = 64

  init() {}

  /// Looks at the host.
  ///
  /// - Parameters:
  ///   - remotes: Whom to ask whether they are there, and from which address.
  ///   - devices: Devices of the underlay.
  ///   - ports: The UDP ports of tunnels.
  init(asking remotes: [IPAddress: IPAddress?], devices: Set<String>, ports: Set<UInt16>) {
    ask(remotes)
    if !ports.isEmpty {
      let families = Set(remotes.keys.map { $0.isIPv6 ? "ip6" : "ip" })
      readFilter(ports, families.union(["inet"]))
    }
    encryptingDevices = devices.filter { device in
      let facts = try? String(contentsOfFile: "/sys/class/net/\(device)/uevent", encoding: .utf8)
      return facts?.contains("DEVTYPE=wireguard") == true
    }
    let isKept = ovx_clock_is_kept()
    if isKept >= 0 { isClockSynchronized = isKept == 1 }
  }

  private mutating func ask(_ remotes: [IPAddress: IPAddress?]) {
    guard !remotes.isEmpty else { return }
    guard let ping = Self.find("ping") else {
      omissions.append("there is no ping(8), so remotes were not asked whether they are there")
      return
    }
    let asked = remotes.sorted { $0.key < $1.key }.prefix(Self.askLimit)
    var questions: [(remote: IPAddress, ping: RunningProgram, answer: String)] = []
    for (remote, local) in asked {
      let source = local.map { ["-I", "\($0)"] } ?? []
      let words = ["-n", "-c", "2", "-i", "0.3", "-W", "1"] + source + ["\(remote)"]
      guard let program = try? RunningProgram(ping, words) else { continue }
      questions.append((remote, program, ""))
    }
    // Each gives up after a second and a little.
    let deadline = ContinuousClock.now + .seconds(3)
    while questions.contains(where: { !$0.ping.hasEnded }), ContinuousClock.now < deadline {
      var waits = questions.filter { !$0.ping.hasEnded }.map {
        pollfd(fd: $0.ping.rawValue, events: Int16(POLLIN), revents: 0)
      }
      _ = unsafe poll(&waits, nfds_t(waits.count), 100)
      for index in questions.indices {
        questions[index].answer += questions[index].ping.takeOutput()
      }
    }
    for question in questions {
      answers[question.remote] = question.answer.contains("bytes from")
    }
    if remotes.count > asked.count {
      omissions.append("only \(asked.count) of \(remotes.count) remotes were asked for an answer")
    }
  }

  private mutating func readFilter(_ ports: Set<UInt16>, _ families: Set<String>) {
    guard let nft = Self.find("nft"), let chains = Self.output(of: nft, ["list", "chains"]) else {
      omissions.append(
        "the packet filter could not be read, which takes nft(8) and root, so nobody has looked for rules that keep "
          + "VXLAN out")
      return
    }
    barriers = FilterBarrier.tables(in: chains).flatMap { table -> [FilterBarrier] in
      guard families.contains(where: { table.hasPrefix("\($0) ") }) else { return [] }
      let words = table.split(separator: " ").map(String.init)
      // Of a long one the rest is not seen, so that nothing is said of it.
      guard let content = Self.output(of: nft, ["-a", "list", "table"] + words),
        content.utf8.count < 16 << 10
      else { return [] }
      return FilterBarrier.barriers(of: table, in: content, ports: ports)
    }
  }

  // MARK: Programs

  private static func find(_ program: String) -> String? {
    let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
    return OVXLinux.find(program: program, in: path + ":/usr/sbin:/sbin:/usr/bin")
  }

  /// What a program prints, up to 16 KiB; `nil` where it fails.
  private static func output(of program: String, _ arguments: [String]) -> String? {
    let output = try? run(program, arguments, until: .now + .seconds(3))
    return output?.status == 0 ? output?.output : nil
  }
}
