internal import OVXControl
private import OVXDatapath
private import OVXHost
private import OVXLinux

/// Asks segments for addresses before somebody is given them, and remembers for a moment who has answered.
///
/// As RFC 5227 has it (section 2.1.1), but within a fraction of a second, as a container that is being started waits for it:
/// the other stations are on networks of data centres, and what they announce later is seen as well.
final class AddressProbes {
  /// Milliseconds from one question to the next, and from the last to the verdict.
  private static let pauses: [Int64] = [60, 90]
  /// Milliseconds for which it holds that nobody has answered.
  private static let freeValidity: Int64 = 5000
  /// Milliseconds for which it holds that somebody has: he may go, and who asks for the very address asks again then.
  private static let takenValidity: Int64 = 500
  /// Addresses that are remembered at most; beyond, the oldest are forgotten.
  private static let limit = 4096

  private struct Probe {
    /// Questions so far.
    var count = 0
    /// When to go on, or to forget it, in milliseconds on the monotonic clock.
    var next: Int64
    /// Whether it is being asked for, for the first time or anew.
    var isUnderWay = true
    var verdict = AddressState.unknown
    /// Until when the verdict holds while it is being asked for anew, as `next` is.
    var expiry: Int64 = 0
  }

  private let running: RunningSwitch
  private var probes: [AddressQuestion: Probe] = [:]
  /// Where questions come from: an address that no station has, as it is made of the prefix of the devices that ovx makes.
  private static let source = MACAddress("02:6f:76:00:00:00")

  init(_ running: RunningSwitch) {
    self.running = running
  }

  /// What is known of an address.
  ///
  /// That it is free was true a moment ago, and another host may have given it to somebody since, who has told so.
  func state(of question: AddressQuestion) -> AddressState {
    guard let probe = probes[question] else { return .unknown }
    let verdict = probe.verdict
    if probe.isUnderWay, probe.expiry <= monotonicMilliseconds() { return .unknown }
    guard verdict == .free, let owner = owners(of: [question])[question] else { return verdict }
    probes[question] = Probe(
      next: monotonicMilliseconds() + Self.takenValidity, isUnderWay: false,
      verdict: .taken(owner))
    return .taken(owner)
  }

  /// When `work` has something to do next, in milliseconds on the monotonic clock; `nil` for never.
  var next: Int64? { probes.values.map(\.next).min() }

  /// Begins to ask for addresses of which nothing is known.
  func ask(_ questions: [AddressQuestion], now: Int64) {
    for question in questions where probes[question] == nil && probes.count < Self.limit {
      probes[question] = Probe(next: now)
    }
    work(now: now)
  }

  /// Begins to ask for addresses that may be given to somebody next, and asks anew for those of which it will not be known much
  /// longer that they are free: so that whoever starts one container after another waits for answers once.
  func askAhead(_ questions: [AddressQuestion], now: Int64) {
    for question in questions {
      guard let probe = probes[question] else { continue }
      guard !probe.isUnderWay, probe.verdict == .free, probe.next - now < Self.freeValidity / 2
      else { continue }
      probes[question] = Probe(next: now, verdict: .free, expiry: probe.next)
    }
    ask(questions, now: now)
  }

  /// Asks again what is to be asked again, and decides what has been asked.
  func work(now: Int64) {
    let due = probes.filter { $0.value.next <= now }.keys
    guard !due.isEmpty else { return }
    let owners = owners(
      of: due.filter { probes[$0].map { $0.count > 0 && $0.isUnderWay } == true })
    var asked: [AddressQuestion] = []
    for question in due {
      guard var probe = probes[question] else { continue }
      if !probe.isUnderWay {
        probes[question] = nil
        continue
      }
      if let owner = owners[question] {
        probe.verdict = .taken(owner)
        probe.isUnderWay = false
        probe.next = now + Self.takenValidity
      } else if probe.count == Self.pauses.count {
        probe.verdict = .free
        probe.isUnderWay = false
        probe.next = now + Self.freeValidity
      } else {
        probe.next = now + Self.pauses[probe.count]
        probe.count += 1
        asked.append(question)
      }
      probes[question] = probe
    }
    send(asked)
  }

  private func send(_ questions: [AddressQuestion]) {
    guard let source = Self.source else { return }
    let questions = located(questions)
    guard !questions.isEmpty else { return }
    running.dataplane.perform { datapath in
      for (question, bridge) in questions {
        datapath.probe(question.address, vlan: question.vlan, bridge: bridge, from: source)
      }
    }
  }

  /// Who has answered for some addresses; each worker is asked once for all of them.
  private func owners(of questions: [AddressQuestion]) -> [AddressQuestion: MACAddress] {
    let questions = located(questions)
    guard !questions.isEmpty else { return [:] }
    let found = running.dataplane.performOnAll { datapath in
      questions.map { question, bridge in
        datapath.neighbor(question.address, vlan: question.vlan, bridge: bridge)
      }
    }
    var owners: [AddressQuestion: MACAddress] = [:]
    for answers in found {
      for ((question, _), address) in zip(questions, answers) where owners[question] == nil {
        owners[question] = address
      }
    }
    return owners
  }

  /// Questions with the numbers of their bridges, without those whose bridge is gone.
  private func located(_ questions: [AddressQuestion]) -> [(AddressQuestion, BridgeID)] {
    questions.compactMap { question in
      running.reconciler.bridge(question.bridge).map { (question, $0) }
    }
  }
}
