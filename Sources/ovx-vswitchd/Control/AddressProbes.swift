internal import OVXControl
private import OVXDatapath
private import OVXHost
private import OVXLinux

/// Asks segments for addresses before somebody is given them, and remembers for a moment who has
/// answered.
///
/// As RFC 5227 has it (section 2.1.1), but within a fraction of a second, as a container that is
/// being started waits for it: the other stations are on networks of data centres, and what they
/// announce later is seen as well.
///
/// Few wait even for that: the next addresses of a segment from which some were given lately are
/// asked for again and again, while nobody waits. Where nobody had one of them a while ago, and
/// nobody has said since that he has it, it is asked for in a short time.
final class AddressProbes {
  /// Milliseconds from one question to the next, and from the last to the verdict.
  private static let pauses: [Int64] = [60, 90]
  /// The same for an address that nobody had a while ago.
  private static let shortPauses: [Int64] = [10, 20]
  /// Milliseconds that this is ago at most; no longer than a segment's stations are remembered
  /// without a word.
  private static let span: Int64 = 240_000
  /// Milliseconds for which it holds that nobody has answered.
  private static let freeValidity: Int64 = 5000
  /// Milliseconds for which it holds that somebody has: he may go, and who asks for the very
  /// address asks again then.
  private static let takenValidity: Int64 = 500
  /// Addresses that are remembered at most; beyond, the oldest are forgotten.
  private static let limit = 4096

  /// Addresses of a segment and family that are kept ready.
  private static let stockSize = 4
  /// Segments whose addresses are kept ready, at most; beyond, those that have waited longest are
  /// forgotten.
  private static let stockLimit = 256
  /// Milliseconds for which the next addresses are ready at any moment after one was given, and
  /// then for which they are asked for in a short time.
  private static let (readiness, stockValidity): (Int64, Int64) = (60_000, 3_600_000)

  /// The addresses that a segment's next stations are to be given.
  private struct Stock {
    var questions: [AddressQuestion]
    /// When one was given last, in milliseconds on the monotonic clock.
    var used: Int64
    /// When they are asked for anew.
    var next: Int64
  }

  private struct Segment: Hashable {
    var bridge: String
    var vlan: VLANID

    init(_ question: AddressQuestion) {
      bridge = question.bridge
      vlan = question.vlan
    }
  }

  private struct Probe {
    /// Questions so far.
    var count = 0
    var pauses = AddressProbes.pauses
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
  private var stocks: [Segment: Stock] = [:]
  /// Addresses that nobody has had when it was asked at length, and until when that is a while ago.
  private var silent: [AddressQuestion: Int64] = [:]
  /// Where questions come from: an address that no station has, as it is made of the prefix of the
  /// devices that ovx makes.
  private static let source = MACAddress("02:6f:76:00:00:00")

  init(_ running: RunningSwitch) {
    self.running = running
  }

  /// What is known of addresses, a state for each.
  ///
  /// That one is free was true a moment ago, and another host may have given it to somebody since,
  /// who has told so.
  func states(of questions: [AddressQuestion]) -> [AddressState] {
    let now = monotonicMilliseconds()
    var states: [AddressState] = []
    states.reserveCapacity(questions.count)
    // Those of which others may have told since.
    var open: [Int] = []
    for (place, question) in questions.enumerated() {
      guard let probe = probes[question] else {
        open.append(place)
        states.append(.unknown)
        continue
      }
      let isOver = probe.isUnderWay && probe.expiry <= now
      if !isOver, probe.verdict == .free { open.append(place) }
      states.append(isOver ? .unknown : probe.verdict)
    }
    for (place, owner) in zip(open, owners(of: open.map { questions[$0] })) {
      guard let owner else { continue }
      if states[place] == .free {
        states[place] = .taken(owner)
        probes[questions[place]] = Probe(
          next: now + Self.takenValidity, isUnderWay: false, verdict: .taken(owner))
      } else {
        states[place] = .told(owner)
      }
    }
    return states
  }

  /// When `work` has something to do next, in milliseconds on the monotonic clock; `nil` for never.
  var next: Int64? {
    [probes.values.lazy.map(\.next).min(), stocks.values.lazy.map(\.next).min()].compactMap(\.self)
      .min()
  }

  /// Begins to ask for addresses of which nothing is known, while somebody waits.
  func ask(_ questions: [AddressQuestion], now: Int64) {
    let new = questions.filter { probes[$0] == nil }
    // Who has said that he has one may have gone, and is given time to say so again.
    for (question, owner) in zip(new, owners(of: new)) {
      let isSilent = (silent[question] ?? 0) > now && owner == nil
      begin(question, isSilent ? Self.shortPauses : Self.pauses, now: now)
    }
    work(now: now)
  }

  private func begin(_ question: AddressQuestion, _ pauses: [Int64], now: Int64) {
    guard probes.count < Self.limit else { return }
    var probe = Probe(next: now)
    probe.pauses = pauses
    probes[question] = probe
  }

  /// Begins to ask for addresses that may be given to somebody next, and asks anew for those of
  /// which it will not be known much longer that they are free: so that whoever starts one
  /// container after another waits for answers once.
  func askAhead(_ questions: [AddressQuestion], now: Int64) {
    guard !questions.isEmpty else { return }
    for question in questions { renew(question, now: now) }
    for (segment, all) in Dictionary(grouping: questions, by: { Segment($0) }) {
      let stock = [false, true].flatMap { isIPv6 in
        all.lazy.filter { $0.address.isIPv6 == isIPv6 }.prefix(Self.stockSize)
      }
      stocks[segment] = Stock(questions: stock, used: now, next: now + Self.freeValidity - 1000)
    }
    if stocks.count > Self.stockLimit,
      let oldest = stocks.min(by: { $0.value.used < $1.value.used })
    {
      stocks[oldest.key] = nil
    }
    work(now: now)
  }

  /// Asks for an address at length, unless it is known for longer that it is free.
  private func renew(_ question: AddressQuestion, now: Int64) {
    guard let probe = probes[question] else { return begin(question, Self.pauses, now: now) }
    guard !probe.isUnderWay, probe.verdict == .free, probe.next - now < Self.freeValidity / 2
    else { return }
    probes[question] = Probe(next: now, verdict: .free, expiry: probe.next)
  }

  /// Asks anew for the addresses that are kept ready.
  private func renewStocks(now: Int64) {
    for (segment, stock) in stocks where stock.next <= now {
      guard now - stock.used < Self.stockValidity else {
        stocks[segment] = nil
        continue
      }
      let isReady = now - stock.used < Self.readiness
      let interval = isReady ? Self.freeValidity - 1000 : memory(of: segment.bridge) / 2
      stocks[segment]?.next = now + max(interval, Self.freeValidity - 1000)
      for question in stock.questions { renew(question, now: now) }
    }
  }

  /// Milliseconds for which stations of a bridge that have told of themselves are remembered for
  /// sure.
  private func memory(of bridge: String) -> Int64 {
    let age = running.reconciler.configuration.bridges[bridge]?.agingTime ?? 0
    return min(Self.span, Int64(age) * 800)
  }

  /// Asks again what is to be asked again, and decides what has been asked.
  ///
  /// That somebody has an address is decided no earlier than that nobody has it: what an agent
  /// tells of another host stays when it is asked for, and its farewell may be on its way.
  func work(now: Int64) {
    renewStocks(now: now)
    let due = Array(probes.filter { $0.value.next <= now }.keys)
    guard !due.isEmpty else { return }
    var asked: [AddressQuestion] = []
    for (question, owner) in zip(due, owners(of: due)) {
      guard var probe = probes[question] else { continue }
      if !probe.isUnderWay {
        probes[question] = nil
        continue
      }
      // What is known before it is asked for the first time is not an answer.
      let owner = probe.count > 0 ? owner : nil
      if let owner, probe.count == probe.pauses.count {
        silent[question] = nil
        stocks[Segment(question)]?.questions.removeAll { $0 == question }
        probe.verdict = .taken(owner)
        probe.isUnderWay = false
        probe.next = now + Self.takenValidity
      } else if probe.count == probe.pauses.count {
        if probe.pauses == Self.pauses { keepSilent(question, now: now) }
        probe.verdict = .free
        probe.isUnderWay = false
        probe.next = now + Self.freeValidity
      } else {
        probe.next = now + probe.pauses[probe.count]
        probe.count += 1
        // To ask is to forget who has answered.
        if owner == nil { asked.append(question) }
      }
      probes[question] = probe
    }
    send(asked)
  }

  /// Remembers that nobody has answered, at length.
  private func keepSilent(_ question: AddressQuestion, now: Int64) {
    if silent.count >= Self.limit { silent = silent.filter { $0.value > now } }
    guard silent.count < Self.limit else { return }
    silent[question] = now + memory(of: question.bridge)
  }

  private func send(_ questions: [AddressQuestion]) {
    guard let source = Self.source else { return }
    let questions = questions.compactMap { question in
      running.reconciler.bridge(question.bridge).map { (question, $0) }
    }
    guard !questions.isEmpty else { return }
    running.dataplane.perform { datapath in
      for (question, bridge) in questions {
        datapath.probe(question.address, vlan: question.vlan, bridge: bridge, from: source)
      }
    }
  }

  /// Who has answered for some addresses, each in its question's place; each worker is asked once
  /// for all of them.
  private func owners(of questions: [AddressQuestion]) -> [MACAddress?] {
    var owners = [MACAddress?](repeating: nil, count: questions.count)
    let located = questions.indices.compactMap { place in
      running.reconciler.bridge(questions[place].bridge).map { (place, questions[place], $0) }
    }
    guard !located.isEmpty else { return owners }
    let found = running.dataplane.performOnAll { datapath in
      located.map { _, question, bridge in
        datapath.neighbor(question.address, vlan: question.vlan, bridge: bridge)
      }
    }
    for answers in found {
      for (place, owner) in zip(located.lazy.map(\.0), answers) where owners[place] == nil {
        owners[place] = owner
      }
    }
    return owners
  }
}
