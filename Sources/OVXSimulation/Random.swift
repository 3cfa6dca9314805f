/// A random sequence that is wholly determined by its seed: xoshiro256**, started by SplitMix64 (Blackman and Vigna).
///
/// Everything random in a simulation comes from one of these, so that a seed replays a run on any machine.
package struct SeededRandom: RandomNumberGenerator {
  private var state: (UInt64, UInt64, UInt64, UInt64)

  package init(seed: UInt64) {
    var mixer = seed
    func mix() -> UInt64 {
      mixer &+= 0x9E37_79B9_7F4A_7C15
      var value = mixer
      value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
      value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
      return value ^ value >> 31
    }
    state = (mix(), mix(), mix(), mix())
  }

  package mutating func next() -> UInt64 {
    let product = state.1 &* 5
    let result = (product << 7 | product >> 57) &* 9
    let shifted = state.1 << 17
    state.2 ^= state.0
    state.3 ^= state.1
    state.1 ^= state.2
    state.0 ^= state.3
    state.2 ^= shifted
    state.3 = state.3 << 45 | state.3 >> 19
    return result
  }

  /// `true` once in so many calls.
  package mutating func oneIn(_ count: Int) -> Bool {
    count > 0 && Int.random(in: 0..<count, using: &self) == 0
  }

  /// `true` with the given probability, 0...1.
  package mutating func chance(_ probability: Double) -> Bool {
    probability > 0 && Double.random(in: 0..<1, using: &self) < probability
  }

  package mutating func below(_ bound: Int) -> Int {
    bound <= 1 ? 0 : Int.random(in: 0..<bound, using: &self)
  }

  package mutating func within(_ range: ClosedRange<Int>) -> Int {
    Int.random(in: range, using: &self)
  }

  package mutating func bits<Value: FixedWidthInteger>(_ type: Value.Type) -> Value {
    Value(truncatingIfNeeded: next())
  }

  /// One of the elements; the sequence must not be empty.
  package mutating func pick<Elements: RandomAccessCollection>(
    _ elements: Elements
  ) -> Elements.Element {
    elements[elements.index(elements.startIndex, offsetBy: below(elements.count))]
  }

  package mutating func octets(_ count: Int) -> [UInt8] {
    var octets: [UInt8] = []
    octets.reserveCapacity(count)
    while octets.count < count {
      var word = next()
      for _ in 0..<Swift.min(8, count - octets.count) {
        octets.append(UInt8(truncatingIfNeeded: word))
        word >>= 8
      }
    }
    return octets
  }
}

/// The rounds of a property test, each with a seed of its own.
///
/// `OVX_SEED` is the first round's seed and `OVX_ROUNDS` multiplies how many there are (a plain number, 1 by default,
/// fractions allowed). A failing round says its seed: with `OVX_SEED` set to it and `OVX_ROUNDS=0` only that round is run.
package struct PropertyRounds: Sequence {
  package let firstSeed: UInt64
  package let count: Int

  /// - Parameters:
  ///   - count: The number of rounds where the environment does not say otherwise.
  ///   - environment: The variables of the process.
  package init(_ count: Int, environment: [String: String]) {
    var system = SystemRandomNumberGenerator()
    firstSeed = environment["OVX_SEED"].flatMap { UInt64($0) } ?? system.next() >> 32
    let factor = environment["OVX_ROUNDS"].flatMap { Double($0) } ?? 1
    self.count = Swift.max(1, Int(Swift.min(Double(count) * Swift.max(factor, 0), 1e12)))
  }

  package func makeIterator() -> AnyIterator<UInt64> {
    var seed = firstSeed
    var left = count
    return AnyIterator {
      guard left > 0 else { return nil }
      left -= 1
      defer { seed &+= 1 }
      return seed
    }
  }
}
