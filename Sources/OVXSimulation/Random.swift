private import Glibc

/// A random sequence that is wholly determined by its seed: xoshiro256**, started by SplitMix64
/// (Blackman and Vigna).
///
/// Everything random in a simulation comes from one of these, and what is random in other tests, so
/// that a seed replays a run on any machine.
package struct SeededRandom: RandomNumberGenerator {
  /// What the sequence began with.
  package let seed: UInt64
  private var state: (UInt64, UInt64, UInt64, UInt64)

  /// Begins with the seed that `OVX_SEED` gives, a number below 2^64, else with a seed of its own.
  package init() {
    let given = unsafe getenv("OVX_SEED").flatMap { unsafe UInt64(String(cString: $0)) }
    self.init(seed: given ?? .random(in: .min ... .max))
  }

  package init(seed: UInt64) {
    self.seed = seed
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
    octets.reserveCapacity(count + 8)
    while octets.count < count {
      unsafe withUnsafeBytes(of: next().littleEndian) { unsafe octets.append(contentsOf: $0) }
    }
    octets.removeLast(octets.count - count)
    return octets
  }
}

extension SeededRandom: CustomStringConvertible {
  /// How to have the same sequence again: what a test says that fails.
  package var description: String { "OVX_SEED=\(seed)" }
}
