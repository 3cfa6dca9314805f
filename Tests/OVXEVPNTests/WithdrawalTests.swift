import Foundation
import OVXControl
import OVXDatapath
import OVXSimulation
import Testing

@testable import OVXEVPN

private let one = "02:00:00:00:00:01"
private let two = "02:00:00:00:00:02"
private let host = "10.0.0.2"

/// What becomes of a host when all that it has told is withdrawn.
@Suite struct WithdrawalTests {
  /// A host with two stations that takes broadcasts.
  private static func bench(hold: Int? = nil) -> Bench {
    var bench = Bench(hold: hold)
    bench.receive(
      Bench.multicast(), Bench.path(one, ip: "172.17.0.5"), Bench.path(two),
      Bench.multicast(from: "10.0.0.3"))
    bench.updates = []
    return bench
  }

  /// As a reflector does it: type 2 first, and type 3 with the next message.
  private static func withdrawAll(_ bench: inout Bench) {
    bench.receive(Bench.path(one, ip: "172.17.0.5", withdrawn: true))
    bench.pass(milliseconds: 100)
    bench.receive(Bench.path(two, withdrawn: true), Bench.multicast(withdrawn: true))
  }

  /// Whether the switch was told at any time that something is there no more to which frames are
  /// sent.
  private static func hasLost(_ bench: Bench) -> Bool {
    bench.updates.contains { update in
      update.networks.values.contains {
        !$0.lostVTEPs.isEmpty || !$0.lostStations.isEmpty
      }
    }
  }

  @Test func aSpeakerThatDiesTakesNothingWithIt() {
    var bench = Self.bench()
    bench.sending = [host]
    Self.withdrawAll(&bench)
    bench.advance(60)
    #expect(!Self.hasLost(bench))
    #expect(bench.agent.state(at: bench.now).held.map(\.routes) == [3])
    #expect(bench.notices.map(\.level) == [.warning])
    #expect(bench.neighbors["red"]?[ip("172.17.0.5")]?.mac == MACAddress(one))
    bench.notices = []
    // It is back, and tells all but one.
    bench.receive(Bench.multicast(), Bench.path(one, ip: "172.17.0.5"))
    bench.advance(4)
    #expect(!Self.hasLost(bench))
    bench.advance(2)
    #expect(bench.station(one) != nil)
    #expect(bench.station(two) == nil)
    #expect(bench.vteps["red"]?.count == 2)
    #expect(bench.agent.state(at: bench.now).held.isEmpty)
    #expect(bench.agent.withdrawals.isEmpty)
  }

  @Test func aSpeakerThatTellsAllAgain() {
    var bench = Self.bench()
    bench.sending = [host]
    for _ in 0..<3 {
      bench.notices = []
      Self.withdrawAll(&bench)
      bench.advance(10)
      bench.receive(Bench.path(one, ip: "172.17.0.5"), Bench.multicast(), Bench.path(two))
      bench.advance(1)
      #expect(bench.agent.withdrawals.isEmpty)
      #expect(bench.notices.map(\.level) == [.warning, .info])
    }
    #expect(!Self.hasLost(bench))
  }

  @Test func aHostThatHasDiedIsGoneAtOnce() {
    var bench = Self.bench()
    Self.withdrawAll(&bench)
    bench.pass(milliseconds: 600)
    #expect(bench.station(one) == nil)
    #expect(bench.station(two) == nil)
    #expect(bench.neighbors["red"]?.isEmpty == true)
    #expect(bench.vteps["red"] == [ip("10.0.0.3")])
    #expect(bench.notices.isEmpty)
    #expect(bench.agent.questions(at: bench.now + 10_000).isEmpty)
  }

  @Test func aHostThatDiesWhileItIsHeld() {
    var bench = Self.bench()
    bench.sending = [host]
    Self.withdrawAll(&bench)
    bench.advance(20)
    bench.sending = []
    // The last sign may be a second old.
    bench.pass(milliseconds: 1500)
    #expect(!Self.hasLost(bench))
    bench.pass(milliseconds: 2500)
    #expect(bench.station(one) == nil)
    #expect(bench.vteps["red"] == [ip("10.0.0.3")])
    #expect(bench.notices.count == 2)
  }

  @Test func aHostThatOnlyAnswersIsHeldForAWhile() {
    var bench = Self.bench()
    bench.answering = [host]
    Self.withdrawAll(&bench)
    bench.advance(29)
    #expect(!Self.hasLost(bench))
    bench.advance(2)
    #expect(bench.station(one) == nil)
  }

  @Test(arguments: [40, 0]) func notForLongerThanTheHoldTime(_ hold: Int) {
    var bench = Self.bench(hold: hold)
    bench.sending = [host]
    Self.withdrawAll(&bench)
    bench.advance(39)
    #expect(!Self.hasLost(bench))
    bench.advance(hold == 0 ? 3600 : 2)
    #expect((bench.station(one) == nil) == (hold != 0))
  }

  @Test func oneStationThatGoesIsGone() {
    var bench = Self.bench()
    bench.sending = [host]
    bench.receive(Bench.path(two, withdrawn: true))
    bench.pass(milliseconds: 300)
    #expect(bench.station(two) == nil)
    #expect(bench.station(one) != nil)
    #expect(bench.vteps["red"]?.count == 2)
    // Nor is a host held that takes no broadcasts any more, or that has taken none.
    bench.receive(Bench.multicast(withdrawn: true))
    bench.pass(milliseconds: 300)
    #expect(bench.vteps["red"] == [ip("10.0.0.3")])
    bench.receive(Bench.path(one, ip: "172.17.0.5", withdrawn: true))
    bench.pass(milliseconds: 300)
    #expect(bench.station(one) == nil)
    #expect(bench.notices.isEmpty)
  }

  @Test func anAddressThatIsWithdrawnIsFreeAtOnce() {
    var bench = Self.bench()
    bench.sending = [host]
    bench.receive(Bench.path(one, ip: "172.17.0.5", withdrawn: true))
    #expect(bench.neighbors["red"]?.isEmpty == true)
    #expect(bench.station(one) != nil)
    bench.pass(milliseconds: 300)
    #expect(bench.station(one) == nil)
    // What is not held falls to whoever tells it.
    bench.receive(Bench.path(two, ip: "172.17.0.5"))
    #expect(bench.neighbors["red"]?[ip("172.17.0.5")]?.mac == MACAddress(two))
  }

  @Test func whoeverTellsOtherwiseIsRightAtOnce() {
    var bench = Self.bench()
    bench.sending = [host]
    bench.receive(Bench.path(one, ip: "172.17.0.5", sequence: 7, sticky: true))
    Self.withdrawAll(&bench)
    bench.advance(5)
    bench.receive(Bench.path(one, ip: "172.17.0.5", from: "10.0.0.9"))
    #expect(bench.station(one)?.vtep == ip("10.0.0.9"))
    #expect(bench.station(one)?.isSticky == false)
    #expect(bench.neighbors["red"]?[ip("172.17.0.5")]?.mac == MACAddress(one))
    // And this host where it hears the station.
    bench.hear(two)
    #expect(bench.station(two) == nil)
    #expect(bench.routes(of: two).count == 1)
    // When the first host is back, it counts again by what it says.
    bench.receive(Bench.path(one, ip: "172.17.0.5", sequence: 7, sticky: true))
    #expect(bench.station(one)?.vtep == ip(host))
  }

  @Test func nothingIsAskedWhileAllIsWell() {
    var bench = Self.bench()
    #expect(bench.agent.delay(at: bench.now) == 500)
    #expect(bench.agent.questions(at: bench.now).isEmpty)
    Self.withdrawAll(&bench)
    #expect(bench.agent.delay(at: bench.now) <= 100)
    bench.agent.switchLost()
    #expect(bench.agent.questions(at: bench.now + 1000).isEmpty)
    #expect(bench.agent.delay(at: bench.now) == 500)
  }

  // MARK: Beside a slow one

  /// One VTEP's history, from which what is in force is found anew each time.
  private struct Reference {
    var told: Set<RouteKey> = []
    var withdrawn: Set<RouteKey> = []
    /// Since something was withdrawn.
    var withdrawals: [Int64] = []
    var departure: Int64?
    /// Since it was the last: answers, those with a sign, those with a frame, and routes told.
    var answers: [Int64] = []
    var signs: [Int64] = []
    var frames: [Int64] = []
    var tellings: [Int64] = []

    mutating func tell(_ key: RouteKey, at now: Int64) {
      told.insert(key)
      withdrawn.remove(key)
      if departure != nil { tellings.append(now) }
      endIfOver()
    }

    mutating func withdraw(_ key: RouteKey, at now: Int64) {
      guard told.remove(key) != nil else { return }
      withdrawn.insert(key)
      withdrawals.append(now)
      if told.isEmpty, departure == nil, withdrawn.contains(where: \.isMulticast) {
        departure = now
      }
    }

    mutating func endIfOver() { if withdrawn.isEmpty { self = Reference(told: told) } }

    mutating func pass(to now: Int64, hold: Int64) {
      guard let first = withdrawals.first, let last = withdrawals.last else { return }
      let life = (signs + tellings).max()
      var isOver = false
      if let departure {
        isOver = hold > 0 && now - first >= hold * 1000
        if let life {
          isOver =
            isOver || now - life >= 3000 || now - (frames.max() ?? departure) >= 30_000
            || tellings.max().map { now - $0 >= 5000 } == true
        } else if let asked = answers.first {
          isOver = isOver || now - asked >= 500
        }
      } else {
        isOver = now - last >= 200 || now - first >= 10_000
      }
      if isOver { self = Reference(told: told) }
    }
  }

  @Test func itIsWhatASlowOneWouldBe() {
    let rounds = PropertyRounds(
      "withdrawals", 200, environment: ProcessInfo.processInfo.environment)
    let failure = rounds.firstFailure { seed in
      var random = SeededRandom(seed: seed)
      let vteps = (2...4).compactMap { IPAddress("10.0.0.\($0)") }
      let hold = [0, 20, 60].randomElement(using: &random) ?? 0
      var fast = Withdrawals()
      var slow = Dictionary(uniqueKeysWithValues: vteps.map { ($0, Reference()) })
      var force: [RouteKey: IPAddress] = [:]
      var counts: [IPAddress: SignsOfLife] = [:]
      var last: [IPAddress: SignsOfLife] = [:]
      func key(_ vtep: IPAddress, _ number: Int) -> RouteKey {
        let distinguisher = RouteDistinguisher(address: UInt32(vtep.low), number: 100)
        return number == 0
          ? .multicast(distinguisher, vtep)
          : .station(distinguisher, MACAddress(rawValue: UInt64(number)) ?? .broadcast, nil)
      }
      var now: Int64 = 0
      for _ in 0..<600 {
        now += [0, 50, 100, 500, 1000].randomElement(using: &random) ?? 0
        for (vtep, routes, _) in fast.due(at: now, hold: hold) {
          for key in routes {
            fast.removed(key, of: vtep)
            force[key] = nil
          }
        }
        for vtep in vteps { slow[vtep]?.pass(to: now, hold: Int64(hold)) }
        let vtep = vteps.randomElement(using: &random) ?? vteps[0]
        let some = key(vtep, Int.random(in: 0...3, using: &random))
        switch Int.random(in: 0..<12, using: &random) {
        case 0, 1:
          fast.told(some, of: vtep, isNew: force.updateValue(vtep, forKey: some) == nil, at: now)
          slow[vtep]?.tell(some, at: now)
        case 2 where force[some] != nil:
          fast.withdrawn(some, of: vtep, at: now)
          slow[vtep]?.withdraw(some, at: now)
        case 3, 4:
          for number in 0...3 where force[key(vtep, number)] != nil {
            fast.withdrawn(key(vtep, number), of: vtep, at: now)
            slow[vtep]?.withdraw(key(vtep, number), at: now)
          }
        case 5: counts[vtep, default: SignsOfLife(vtep: vtep)].frames += 1
        case 6: counts[vtep, default: SignsOfLife(vtep: vtep)].echoes += 1
        default: break
        }
        let asked = fast.questions(at: now)
        let answer = asked.map { counts[$0] ?? SignsOfLife(vtep: $0) }
        _ = fast.heard(asked, answer, at: now)
        for signs in answer {
          if slow[signs.vtep]?.answers.isEmpty == true { last[signs.vtep] = nil }
          if let old = last[signs.vtep] {
            if old != signs { slow[signs.vtep]?.signs.append(now) }
            if old.frames != signs.frames { slow[signs.vtep]?.frames.append(now) }
          }
          slow[signs.vtep]?.answers.append(now)
          last[signs.vtep] = signs
        }
        for vtep in vteps {
          let expected = slow[vtep]?.told.union(slow[vtep]?.withdrawn ?? []) ?? []
          let found = Set(force.filter { $0.value == vtep }.keys)
          guard expected == found else {
            throw Discrepancy("at \(now) ms of \(vtep) there is \(found), not \(expected)")
          }
          if slow[vtep]?.departure != nil, fast.delay(at: now).map({ $0 > 1000 }) ?? true {
            throw Discrepancy("at \(now) ms nobody is to look after \(vtep)")
          }
        }
      }
    }
    #expect(failure == nil, "\(failure ?? "")")
  }
}
