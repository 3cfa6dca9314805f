extension Sequence<UInt8> {
  /// FNV-1a with 64 bits: the same number for the same bytes in every process, and no secret.
  ///
  /// - Parameter basis: What it begins with; the algorithm's own where nothing is said.
  /// - Returns: The hash.
  package func fnv1a(from basis: UInt64 = 0xCBF2_9CE4_8422_2325) -> UInt64 {
    reduce(basis) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
  }
}
