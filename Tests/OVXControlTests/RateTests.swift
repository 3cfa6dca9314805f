import OVXControl
import OVXDatapath
import Testing

@testable import ovx_ctl

/// Counters that a watch tells, and the rates that `top` makes of them.
@Suite struct RateTests {
  static func statistics(_ port: String, _ count: UInt64) -> PortStatistics {
    var statistics = PortStatistics(bridge: "br0", port: port, PortCounters())
    statistics.receivedFrames = count
    statistics.receivedBytes = 100 * count
    statistics.sentFrames = 2 * count
    statistics.sentBytes = 200 * count
    statistics.drops = ["too-large": count]
    return statistics
  }

  private func sample(_ seconds: Double, _ counts: [String: UInt64]) -> CounterSample {
    CounterSample(
      time: .seconds(seconds), ports: counts.map { Self.statistics($0.key, $0.value) })
  }

  @Test func rates() {
    let old = sample(1, ["a": 10, "b": 10, "gone": 10])
    let new = sample(3, ["a": 11, "b": 30, "new": 99])
    let lines = Rates(from: old, to: new).lines
    #expect(lines.map(\.port) == ["b", "a", "new"])
    #expect(lines[0].receivedFramesPerSecond == 10)
    #expect(lines[0].receivedBitsPerSecond == 8000)
    #expect(lines[0].sentFramesPerSecond == 20)
    #expect(lines[0].sentBitsPerSecond == 16000)
    #expect(lines[0].dropsPerSecond == 10)
    #expect(lines[2].bitsPerSecond == 0)
    // A port that was made anew counts from 0.
    let again = Rates(from: sample(3, ["b": 30]), to: sample(4, ["b": 10]))
    #expect(again.lines.allSatisfy { $0.bitsPerSecond == 0 })
    // No counter can make it fall over.
    let huge = Rates(from: sample(0, ["a": 0]), to: sample(1e-9, ["a": 1 << 55]))
    #expect(huge.lines[0].receivedBitsPerSecond == .max)
  }

  // MARK: Samples

  private func row(_ port: String, _ count: UInt64, of action: WatchEvent.Action) -> WatchEvent {
    let row = Self.statistics(port, count).row
    return WatchEvent(
      action, table: .statistics, record: port, new: action == .delete ? nil : row,
      old: action == .delete ? row : nil)
  }

  private func time(_ microseconds: Int64, _ action: WatchEvent.Action = .modify) -> WatchEvent {
    WatchEvent(action, table: .sample, record: ".", new: CounterSamples.row(time: microseconds))
  }

  private func counts(_ sample: CounterSample?) -> [String: PortStatistics] {
    Dictionary(uniqueKeysWithValues: (sample?.ports ?? []).map { ($0.port, $0) })
  }

  @Test func samplesAreCompleteWithTheirTime() throws {
    var samples = CounterSamples()
    #expect(samples.take(row("a", 1, of: .initial)) == nil)
    #expect(samples.take(row("b", 2, of: .initial)) == nil)
    #expect(samples.take(time(5_000_000, .initial)) == nil)
    let first = samples.take(WatchEvent(.snapshotEnd))
    #expect(first?.time == .seconds(5))
    #expect(counts(first) == ["a": Self.statistics("a", 1), "b": Self.statistics("b", 2)])

    // A part of the columns, a port that goes and one that comes.
    let old = Self.statistics("a", 1)
    var new = old
    new.receivedFrames = 7
    new.drops["split-horizon"] = 1
    let change = try #require(
      WatchEvent(.statistics, "a", from: old.row, to: new.row), "there is a difference")
    #expect(change.new?.keys.sorted() == ["drops", "receivedFrames"])
    #expect(samples.take(change) == nil)
    #expect(samples.take(row("b", 2, of: .delete)) == nil)
    #expect(samples.take(row("c", 3, of: .insert)) == nil)
    let second = samples.take(time(6_500_000))
    #expect(second?.time == .seconds(6.5))
    #expect(counts(second) == ["a": new, "c": Self.statistics("c", 3)])
    // Nothing has changed but the time.
    #expect(counts(samples.take(time(7_000_000))) == counts(second))
  }

  @Test func whatWasMissedIsNotMixedWithWhatIsNew() {
    var samples = CounterSamples()
    _ = samples.take(row("a", 1, of: .initial))
    _ = samples.take(time(1_000_000, .initial))
    _ = samples.take(WatchEvent(.snapshotEnd))
    #expect(samples.take(WatchEvent(.missed)) == nil)
    _ = samples.take(row("b", 9, of: .initial))
    #expect(samples.take(time(4_000_000, .initial)) == nil)
    let sample = samples.take(WatchEvent(.snapshotEnd))
    #expect(sample?.time == .seconds(4))
    #expect(counts(sample) == ["b": Self.statistics("b", 9)])
  }
}
