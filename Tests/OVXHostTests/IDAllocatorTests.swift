import OVXSimulation
import Testing

@testable import OVXHost

@Suite struct IDAllocatorTests {
  @Test func lowestFreeFirst() {
    var numbers = IDAllocator<String>(from: 1, below: 5)
    #expect(numbers.number(for: "a") == 1)
    #expect(numbers.number(for: "b") == 2)
    #expect(numbers.number(for: "a") == 1)
    #expect(numbers["b"] == 2)
    #expect(numbers["c"] == nil)
  }

  @Test func quarantineLastsUntilTheDataPlaneHasForgotten() {
    var numbers = IDAllocator<String>(below: 10)
    _ = numbers.number(for: "a")
    _ = numbers.number(for: "b")
    numbers.release("a")
    #expect(numbers["a"] == nil)
    #expect(numbers.number(for: "c") == 2, "0 must not be given out before releaseQuarantined()")
    numbers.releaseQuarantined()
    #expect(numbers.number(for: "d") == 0)
    #expect(numbers.number(for: "e") == 3)
  }

  @Test func limitIsKept() {
    var numbers = IDAllocator<Int>(from: 1, below: 4)
    #expect((0..<5).map { numbers.number(for: $0) } == [1, 2, 3, nil, nil])
    numbers.release(1)
    #expect(numbers.number(for: 9) == nil)
    numbers.releaseQuarantined()
    #expect(numbers.number(for: 9) == 2)
  }

  /// Against a slow and obvious model: the lowest number that is neither given nor in quarantine.
  @Test func agreesWithModel() {
    var random = SeededRandom()
    var numbers = IDAllocator<Int>(below: 20)
    var model: [Int: Int] = [:]
    var quarantined: Set<Int> = []
    for step in 0..<5000 {
      let name = Int.random(in: 0..<30, using: &random)
      switch Int.random(in: 0..<10, using: &random) {
      case 0..<5:
        let taken = Set(model.values).union(quarantined)
        let expected = model[name] ?? (0..<20).first { !taken.contains($0) }
        model[name] = expected
        #expect(numbers.number(for: name) == expected, "step \(step), \(random)")
      case 5..<9:
        if let number = model.removeValue(forKey: name) { quarantined.insert(number) }
        numbers.release(name)
      default:
        quarantined = []
        numbers.releaseQuarantined()
      }
      #expect(numbers[name] == model[name], "step \(step), \(random)")
    }
  }

  @Test func rangesAreConsecutiveAndReused() {
    var ranges = IDRangeAllocator<String>(below: 40)
    #expect(ranges.assign(16, to: "a") == 0..<16)
    #expect(ranges.assign(16, to: "b") == 16..<32)
    #expect(ranges.assign(16, to: "c") == nil, "8 are left")
    #expect(ranges.assign(8, to: "d") == 32..<40)
    #expect(ranges.count == 40)
    #expect(ranges.release("a", keeping: 4) == 4..<16)
    #expect(ranges.count == 28)
    #expect(ranges["a"] == 0..<4)
    #expect(ranges.assign(4, to: "e") == nil, "they are in quarantine")
    ranges.releaseQuarantined()
    #expect(ranges.assign(12, to: "e") == 4..<16)
    #expect(ranges.release("a") == 0..<4)
    #expect(ranges["a"] == nil)
    #expect(ranges.release("a") == nil)
    ranges.releaseQuarantined()
    #expect(ranges.assign(4, to: "f") == 0..<4)
  }
}
