/// Where a simulation did something else than was expected, in words.
package struct Discrepancy: Error, CustomStringConvertible {
  package var description: String

  package init(_ description: String) { self.description = description }
}

/// The rounds of a property test, each with a seed of its own.
///
/// `OVX_SEED` is the first round's seed, a number below 2^64; random by default. `OVX_ROUNDS`
/// multiplies how many rounds there are; fractions are allowed, and 0 leaves one. A failure says
/// its seed: with `OVX_SEED` set to it and `OVX_ROUNDS=0` only the round that failed is run.
package struct PropertyRounds {
  package let name: String
  package let firstSeed: UInt64
  package let count: Int

  /// - Parameters:
  ///   - name: What the property is called in reports.
  ///   - count: The number of rounds where the environment does not say otherwise.
  ///   - environment: The variables of the process.
  package init(_ name: String, _ count: Int, environment: [String: String]) {
    self.name = name
    var system = SystemRandomNumberGenerator()
    firstSeed = environment["OVX_SEED"].flatMap { UInt64($0) } ?? system.next() >> 32
    let factor = environment["OVX_ROUNDS"].flatMap { Double($0) } ?? 1
    self.count = max(1, Int(min(Double(count) * max(factor, 0), 1e12)))
  }

  /// Runs the rounds up to the first that fails, and says what failed and how to see it again.
  package func firstFailure(_ body: (_ seed: UInt64) throws -> Void) -> String? {
    print("\(name): \(count) rounds from OVX_SEED=\(firstSeed)")
    for round in 0..<count {
      let seed = firstSeed &+ UInt64(round)
      do {
        try body(seed)
      } catch {
        return "\(name) fails; replay with OVX_SEED=\(seed) OVX_ROUNDS=0: \(error)"
      }
    }
    return nil
  }
}
