// Entries of an `AgingTable` have a time stamp, which also says of those that do not age where they
// are from.

/// The time stamp of a static entry.
let staticStamp = UInt32.max
/// The time stamps of external entries: of one that holds against what devices tell, and of one
/// that does not.
let stickyStamp = UInt32.max - 1
let externalStamp = UInt32.max - 2
/// The largest time stamp of a learned one.
let lastSecond = UInt32.max - 3

/// Where an entry is from; what is further up counts more.
package enum EntryOrigin: UInt8, BitwiseCopyable, Comparable, Sendable {
  case learned
  /// An agent's, as `NTF_EXT_LEARNED` of Linux has it: it does not age, and gives way to what a
  /// device tells.
  case external
  /// The same, which does not give way.
  case stickyExternal
  /// An operator's.
  case `static`

  package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }

  init(stamp: UInt32) {
    switch stamp {
    case staticStamp: self = .static
    case stickyStamp: self = .stickyExternal
    case externalStamp: self = .external
    default: self = .learned
    }
  }

  /// The time stamp of entries that do not age.
  var stamp: UInt32 {
    switch self {
    case .learned: 0
    case .external: externalStamp
    case .stickyExternal: stickyStamp
    case .static: staticStamp
    }
  }
}
