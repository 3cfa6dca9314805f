import Foundation
import OVXDatapath
import OVXSimulation
import Testing

/// Whole hosts on an underlay that may be bad: what tenants are promised whatever happens.
@Suite struct OverlayProperties {
  @Test func aGoodUnderlayCarriesEverythingOnce() {
    let suppressed = check("good underlay", rounds: 10) { _ in }
    // One seed alone, replayed, may have none.
    if ProcessInfo.processInfo.environment["OVX_SEED"] == nil {
      #expect(suppressed > 0, "No host answered a question in the place of a container.")
    }
  }

  @Test func aBadUnderlayOnlyLosesDoublesAndReorders() {
    check("bad underlay", rounds: 10) { conditions in
      conditions.loss = 0.1
      conditions.duplication = 0.1
      conditions.reordering = 0.2
    }
  }

  @Test func lossAloneDoublesNothing() {
    check("lossy underlay", rounds: 5) { $0.loss = 0.3 }
  }

  @Test func reorderingAloneLosesNothing() {
    check("reordering underlay", rounds: 5) { $0.reordering = 0.5 }
  }

  /// Runs the property, and returns how many questions hosts answered in the place of containers.
  @discardableResult
  private func check(
    _ name: String, rounds: Int, _ worsen: (inout SimulatedNetwork.Conditions) -> Void
  ) -> UInt64 {
    var conditions = SimulatedNetwork.Conditions()
    worsen(&conditions)
    let rounds = PropertyRounds(name, rounds, environment: ProcessInfo.processInfo.environment)
    var suppressed: UInt64 = 0
    let failure = rounds.firstFailure { seed in
      var run = OverlayRun(seed: seed, conditions: conditions)
      for _ in 0..<30 { try run.step() }
      suppressed += run.suppressedQuestions
    }
    if let failure { Issue.record("\(failure)") }
    return suppressed
  }
}

/// Containers that send, hosts that restart, containers that come, go and move; and the books.
private struct OverlayRun {
  private var random: SeededRandom
  private var overlay: Overlay
  private var network: SimulatedNetwork
  private let conditions: SimulatedNetwork.Conditions
  /// What was sent, by its number.
  private var messages: [UInt32: Message] = [:]
  private var streams: [UInt16: Stream] = [:]
  /// What containers asked for, and how often; how often they were answered.
  private var questions: [Question: (asked: Int, answered: Int)] = [:]
  /// What containers were asked and have yet to answer.
  private var unanswered: [(Container, frame: [UInt8])] = []
  private var clock: UInt32 = 0
  /// Workers that each host has.
  private let workerCount: Int

  private struct Question: Hashable {
    var asker: Container
    var target: IPAddress
  }

  /// A frame that says who sent it, so that wherever it turns up it can be judged.
  private struct Message {
    var sender: Container
    /// Where it must arrive if nothing is lost.
    var audience: Set<Place>
    var arrivals: [Place: Int] = [:]
  }

  /// A TCP stream, of which each byte follows from its place.
  private struct Stream {
    var sender: Container
    var receiver: Container
    var firstSequence: UInt32
    var length = 0
    /// Bytes delivered to the receiver, by place in the stream.
    var isDelivered: [Bool] = []
    /// Bytes delivered more than once.
    var repeated = 0

    func octet(_ place: Int) -> UInt8 {
      UInt8(truncatingIfNeeded: (place &* 31) ^ (place >> 8) ^ Int(firstSequence))
    }
  }

  private struct Place: Hashable {
    var host: Int
    var port: PortID
  }

  init(seed: UInt64, conditions: SimulatedNetwork.Conditions) {
    random = SeededRandom(seed: seed)
    self.conditions = conditions
    workerCount = random.within(1...3)
    overlay = Overlay(
      hostCount: random.within(2...5), tenantCount: random.within(1...3),
      hasOnePortPerRemote: random.oneIn(2), hasBridgePerTenant: random.oneIn(2))
    network = SimulatedNetwork(seed: random.next(), conditions: conditions)
    network.conditions.trains = Double(random.below(11)) / 10
    for _ in 0..<overlay.hostCount * overlay.tenantCount * 2 { addContainer() }
    for host in 0..<overlay.hostCount {
      let simulated = SimulatedHost(
        overlay.topology(of: host), workers: workerCount, seed: random.next())
      _ = network.attach(
        simulated, address: Overlay.address(of: host), endpoint: ListenerID(rawValue: 0))
    }
  }

  /// A burst of sending, or a change; then part or all of what is under way arrives.
  mutating func step() throws {
    switch random.below(16) {
    case 12...: for _ in 0..<random.within(1...4) { ask() }
    case 0: try change { $0.restart() }
    case 1: try change { $0.moveContainer() }
    case 2: try change { $0.addContainer() }
    case 3: passTime()
    case 4..<8: for _ in 0..<random.within(1...6) { sendMessage() }
    default: sendStreams()
    }
    answerQuestions()
    endBursts()
    if random.oneIn(3) {
      try arrive(bursts: random.within(1...10))
    } else {
      try arrive(bursts: .max)
      try settleBooks()
    }
  }

  // MARK: Changes

  /// Changes something, on a quiet network most of the time.
  private mutating func change(_ body: (inout OverlayRun) -> Void) throws {
    if random.oneIn(3) {
      // What is under way may miss its audience, so nothing is expected of it any more.
      for number in messages.keys { messages[number]?.audience = [] }
      streams = [:]
      questions = [:]
      unanswered = []
    } else {
      endBursts()
      try arrive(bursts: .max)
      try settleBooks()
    }
    let before = Set(overlay.containers)
    body(&self)
    for host in 0..<network.hostCount {
      network.host(host).apply(overlay.topology(of: host))
    }
    try arrive(bursts: .max)
    // As a host does when its interface comes up; until then others look for it where it was.
    for container in overlay.containers where !before.contains(container) {
      sendMessage(from: container)
    }
    endBursts()
    try arrive(bursts: .max)
    try settleBooks()
  }

  private mutating func addContainer() {
    let host = random.below(overlay.hostCount)
    guard let port = overlay.freePort(on: host), port.rawValue < 12 else { return }
    let tenant = random.below(overlay.tenantCount)
    let number = overlay.containers.filter { $0.tenant == tenant }.map(\.address.rawValue).max()
    overlay.containers.append(
      Container(
        tenant: tenant, address: MACAddress(truncating: (number ?? 0x0200_0000_0000) + 1),
        host: host, port: port))
  }

  /// A container goes to another host and takes its address along.
  private mutating func moveContainer() {
    guard !overlay.containers.isEmpty else { return }
    let index = random.below(overlay.containers.count)
    let host = random.below(overlay.hostCount)
    guard let port = overlay.freePort(on: host), port.rawValue < 12 else { return }
    overlay.containers[index].host = host
    overlay.containers[index].port = port
    streams = [:]
  }

  /// A daemon dies between two bursts, and a new one knows the configuration only.
  private mutating func restart() {
    let host = random.below(overlay.hostCount)
    let fresh = SimulatedHost(
      overlay.topology(of: host), workers: workerCount, seed: random.next())
    fresh.tick(now: clock)
    network.restart(host, as: fresh)
  }

  private mutating func passTime() {
    clock &+= UInt32(random.below(400))
    for host in 0..<network.hostCount { network.host(host).tick(now: clock) }
  }

  // MARK: Sending

  private mutating func endBursts() {
    for host in 0..<network.hostCount { network.host(host).endBurst() }
    network.collect()
  }

  /// A broadcast; every container of the tenant has to hear it once.
  private mutating func sendMessage(from container: Container? = nil) {
    guard let sender = container ?? overlay.containers.randomElement(using: &random) else { return }
    let number = random.bits(UInt32.self)
    var payload: [UInt8] = []
    payload.append(number: number)
    payload += [UInt8](repeating: 0xEE, count: random.within(42...300))
    let frame = plainFrame(
      from: sender.address, to: .broadcast, etherType: 0x88B5, payload: payload)
    let others = overlay.containers.filter { $0.tenant == sender.tenant && $0 != sender }
    messages[number] = Message(
      sender: sender, audience: Set(others.map { Place(host: $0.host, port: $0.port) }))
    network.host(sender.host).receive(PartialFrame(frame), from: sender.port)
  }

  /// Several streams at once, each a few superframes or segments long.
  private mutating func sendStreams() {
    for _ in 0..<random.within(1...3) {
      if streams.count < 6 || random.oneIn(4) { openStream() }
      guard let number = streams.keys.sorted().randomElement(using: &random) else { return }
      for _ in 0..<random.within(1...3) { sendPart(of: number) }
    }
  }

  private mutating func openStream() {
    guard !overlay.containers.isEmpty else { return }
    let sender = random.pick(overlay.containers)
    let others = overlay.containers.filter { $0.tenant == sender.tenant && $0 != sender }
    guard !others.isEmpty else { return }
    let number = random.bits(UInt16.self)
    guard streams[number] == nil else { return }
    streams[number] = Stream(
      sender: sender, receiver: random.pick(others), firstSequence: random.bits(UInt32.self))
  }

  private mutating func sendPart(of number: UInt16) {
    guard var stream = streams[number] else { return }
    var plan = PacketPlan(from: stream.sender.address, to: stream.receiver.address)
    plan.isIPv6 = number % 3 == 0
    plan.sourcePort = number
    plan.sourceHost = UInt16(truncatingIfNeeded: stream.sender.address.rawValue)
    plan.destinationHost = UInt16(truncatingIfNeeded: stream.receiver.address.rawValue)
    plan.sequence = stream.firstSequence &+ UInt32(stream.length)
    plan.identification = random.bits(UInt16.self)
    if random.oneIn(3) { plan.tcpFlags |= 0x08 }
    let length = random.within(1...(random.oneIn(2) ? 1300 : 9000))
    plan.payload = (stream.length..<stream.length + length).map { stream.octet($0) }
    stream.length += length
    stream.isDelivered += [Bool](repeating: false, count: length)
    streams[number] = stream
    let host = network.host(stream.sender.host)
    if length > 1300 {
      host.receive(plan.superframe(segmentSize: 1300), from: stream.sender.port)
    } else {
      let frame = random.oneIn(2) ? plan.partialFrame : PartialFrame(plan.frame)
      host.receive(frame, from: stream.sender.port)
    }
  }

  // MARK: Neighbors

  /// Questions that hosts have answered in the place of containers.
  var suppressedQuestions: UInt64 {
    var sum: UInt64 = 0
    for host in 0..<network.hostCount {
      for bridge in 0..<overlay.tenantCount {
        sum +=
          network.host(host).datapath
          .neighborStatistics(of: BridgeID(rawValue: UInt16(bridge))).answered
      }
    }
    return sum
  }

  /// A container's IP address: with its Ethernet address it tells the tenant, though tenants share
  /// both.
  private static func ip(of container: Container, isIPv6: Bool) -> IPAddress {
    let number = (container.address.rawValue & 0xFFFF) + UInt64(container.tenant) * 5
    return isIPv6
      ? IPAddress(v6High: 0xFD00_0000_0000_0000, low: number)
      : IPAddress(v4: 0x0A00_0000 | UInt32(number))
  }

  /// A container asks all others of its tenant for one's address.
  private mutating func ask() {
    guard let asker = overlay.containers.randomElement(using: &random) else { return }
    let others = overlay.containers.filter { $0.tenant == asker.tenant && $0 != asker }
    guard let target = others.randomElement(using: &random) else { return }
    let isIPv6 = random.oneIn(2)
    let question = Question(asker: asker, target: Self.ip(of: target, isIPv6: isIPv6))
    questions[question, default: (0, 0)].asked += 1
    network.host(asker.host).receive(
      PartialFrame(
        neighborQuestion(
          for: question.target, from: asker.address, Self.ip(of: asker, isIPv6: isIPv6))),
      from: asker.port)
  }

  private mutating func answerQuestions() {
    for (container, frame) in unanswered {
      network.host(container.host).receive(PartialFrame(frame), from: container.port)
    }
    unanswered = []
  }

  private mutating func judgeNeighbors(_ frame: [UInt8], at container: Container) throws {
    let isIPv6 = frame.number16(at: 12) == 0x86DD
    guard
      let kind = isIPv6 ? frame.number(at: 54, count: 1) : frame.number16(at: 20).map(UInt64.init),
      let teller = frame.address(at: isIPv6 ? 80 : 22),
      let source = Self.ip(in: frame, at: isIPv6 ? 22 : 28, isIPv6),
      let target = Self.ip(in: frame, at: isIPv6 ? 62 : 38, isIPv6)
    else { throw Discrepancy("A stump of a question or answer: \(frame.hexadecimal)") }
    let isQuestion = kind == (isIPv6 ? 135 : 1)
    // In an advertisement of IPv6 the target is who tells; in ARP, who is told.
    let told = isQuestion || !isIPv6 ? source : target
    guard teller.rawValue & 0xFFFF + UInt64(container.tenant) * 5 == told.low & 0xFFFF else {
      throw Discrepancy(
        "Tenant \(container.tenant) hears of another one's neighbor: \(frame.hexadecimal)")
    }
    if isQuestion {
      guard target == Self.ip(of: container, isIPv6: isIPv6) else { return }
      unanswered.append(
        (container, neighborAnswer(from: container.address, target, to: teller, source)))
    } else if frame.address(at: 0) == container.address {
      let question = Question(asker: container, target: told)
      guard let count = questions[question] else { return }
      questions[question]?.answered += 1
      if conditions.duplication == 0, count.answered == count.asked {
        throw Discrepancy("A question was answered twice: \(frame.hexadecimal)")
      }
    }
  }

  private static func ip(in frame: [UInt8], at offset: Int, _ isIPv6: Bool) -> IPAddress? {
    guard isIPv6 else {
      return frame.number(at: offset, count: 4).map { IPAddress(v4: UInt32($0)) }
    }
    guard let high = frame.number(at: offset, count: 8),
      let low = frame.number(at: offset + 8, count: 8)
    else { return nil }
    return IPAddress(v6High: high, low: low)
  }

  // MARK: Arriving

  private mutating func arrive(bursts: Int) throws {
    var left = bursts
    repeat {
      network.run(bursts: 1)
      for delivery in network.takeDeliveries() { try judge(delivery) }
      left -= 1
    } while left > 0 && !network.isQuiet
    for host in 0..<network.hostCount {
      if let violation = network.host(host).violations.first { throw Discrepancy(violation) }
    }
    guard network.oversized == 0 else { throw Discrepancy("A datagram needed fragmentation.") }
    guard network.unroutable == 0 else { throw Discrepancy("A datagram went nowhere.") }
  }

  private mutating func judge(_ delivery: SimulatedNetwork.Delivery) throws {
    guard let container = overlay.container(host: delivery.host, port: delivery.port) else {
      throw Discrepancy("Host \(delivery.host) sent to port \(delivery.port), which is nobody's.")
    }
    guard let frames = delivery.frame.wireFrames else {
      throw Discrepancy("A delivered superframe is broken: \(delivery.frame.bytes.hexadecimal)")
    }
    for frame in frames {
      guard let anatomy = FrameAnatomy(frame) else { throw Discrepancy("A stump was delivered.") }
      if anatomy.etherType == 0x88B5 {
        try judgeMessage(frame, at: container)
      } else if anatomy.etherType == 0x0806 || anatomy.packet?.transportProtocol == 58 {
        try judgeNeighbors(frame, at: container)
      } else {
        try judgeSegment(frame, anatomy, at: container)
      }
    }
  }

  private mutating func judgeMessage(_ frame: [UInt8], at container: Container) throws {
    let number = UInt32(truncatingIfNeeded: frame.number(at: 14, count: 4) ?? 0)
    guard var message = messages[number] else { throw Discrepancy("A message of nobody arrived.") }
    guard message.sender.tenant == container.tenant else {
      throw Discrepancy("Tenant \(container.tenant) hears tenant \(message.sender.tenant).")
    }
    guard message.sender != container else {
      throw Discrepancy("A message came back to its sender, port \(container.port.rawValue).")
    }
    let place = Place(host: container.host, port: container.port)
    message.arrivals[place, default: 0] += 1
    messages[number] = message
    if conditions.duplication == 0, message.arrivals[place] != 1 {
      throw Discrepancy(
        "A message arrived twice at host \(place.host), port \(place.port.rawValue).")
    }
  }

  private mutating func judgeSegment(
    _ frame: [UInt8], _ anatomy: FrameAnatomy, at container: Container
  ) throws {
    guard let packet = anatomy.packet, let payload = anatomy.payload(in: frame),
      anatomy.hasRightChecksum(in: frame) == true,
      let number = frame.number16(at: packet.transport),
      let sequence = frame.number(at: packet.transport + 4, count: 4)
    else { throw Discrepancy("A broken segment was delivered: \(frame.hexadecimal)") }
    // Of a stream that a change has ended only its tenant could be told.
    guard var stream = streams[number] else { return }
    guard stream.sender.tenant == container.tenant else {
      throw Discrepancy("Tenant \(container.tenant) sees tenant \(stream.sender.tenant)'s stream.")
    }
    guard container == stream.receiver else { return }
    let start = Int(UInt32(truncatingIfNeeded: sequence) &- stream.firstSequence)
    guard start + payload.count <= stream.length else {
      throw Discrepancy("Stream \(number) is longer than what was sent.")
    }
    for (index, octet) in payload.enumerated() {
      guard octet == stream.octet(start + index) else {
        throw Discrepancy("Stream \(number) has a wrong byte at \(start + index).")
      }
      if stream.isDelivered[start + index] { stream.repeated += 1 }
      stream.isDelivered[start + index] = true
    }
    streams[number] = stream
  }

  /// On a quiet network: all that had to arrive has arrived.
  private mutating func settleBooks() throws {
    while !unanswered.isEmpty {
      answerQuestions()
      endBursts()
      try arrive(bursts: .max)
    }
    for (question, count) in questions where count.answered < count.asked {
      guard conditions.loss > 0 else {
        throw Discrepancy(
          "\(question) was asked \(count.asked) and answered \(count.answered) times.")
      }
    }
    questions = [:]
    let mayLose = conditions.loss > 0
    let mayRepeat = conditions.duplication > 0
    for message in messages.values {
      let missing = message.audience.subtracting(message.arrivals.keys)
      guard mayLose || missing.isEmpty else {
        throw Discrepancy("A broadcast did not reach \(missing).")
      }
    }
    for (number, stream) in streams {
      guard mayLose || stream.isDelivered.allSatisfy({ $0 }) else {
        throw Discrepancy("Stream \(number) has a gap.")
      }
      guard mayRepeat || stream.repeated == 0 else {
        throw Discrepancy("Stream \(number) repeats \(stream.repeated) bytes.")
      }
    }
    messages = [:]
  }
}
