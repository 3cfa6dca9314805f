private import CChecksum

/// What says whether a decision that was taken still holds: numbers in memory that the fast path's
/// programs read.
///
/// One number is the topology's, and each station has one of the others, by a hash of its address
/// and VLAN. A decision keeps those by which it was taken; it holds as long as they are the same.
/// So all decisions about a station are revoked by counting up one number, in the very moment in
/// which its entry in a table becomes another one, without a look at what has been decided.
/// Stations that share a number are revoked together, which costs each of them a frame that goes by
/// the switch.
@safe
package struct Generations: @unchecked Sendable, BitwiseCopyable {
  private let numbers: UnsafeMutablePointer<UInt64>?
  private let mask: UInt64
  private let seed: UInt64

  /// Of nothing that anybody would repeat.
  package static let none = Generations()

  private init() {
    unsafe numbers = nil
    mask = 0
    seed = 0
  }

  /// - Parameters:
  ///   - numbers: Shared with whoever repeats decisions, for as long as the generations are used.
  ///   - count: A power of 2.
  ///   - seed: Unknown to tenants, who could otherwise aim at the number of a station that is not
  ///     theirs; the same for all who share the numbers.
  @unsafe package init(_ numbers: UnsafeMutablePointer<UInt64>, count: Int, seed: UInt64) {
    unsafe self.numbers = unsafe numbers
    mask = UInt64(count - 1)
    self.seed = seed
  }

  /// Where the topology's is.
  package static let topology: UInt32 = 0

  /// Where the one of a station is: not 0.
  func slot(of key: some AgingTableKey) -> UInt32 {
    max(UInt32(truncatingIfNeeded: key.hash(seed: seed) >> 32 & mask), 1)
  }

  /// The number in a place; 0 where there is none.
  package subscript(slot: UInt32) -> UInt64 {
    guard let numbers = unsafe numbers else { return 0 }
    return unsafe ovx_load(numbers + Int(UInt64(slot) & mask))
  }

  /// Revokes what was decided by a number.
  package func change(_ slot: UInt32) {
    guard let numbers = unsafe numbers else { return }
    unsafe ovx_count_up(numbers + Int(UInt64(slot) & mask))
  }

  /// Revokes what was decided about a station.
  @inline(__always) func change(_ key: some AgingTableKey) {
    if unsafe numbers != nil { change(slot(of: key)) }
  }
}
