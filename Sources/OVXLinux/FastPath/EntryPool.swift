internal import OVXDatapath

/// The numbers of the fast path's entries, handed out so that no tenant leaves the others without.
///
/// A segment may have as many as it likes while there are plenty. When there are few, those that
/// have more than an equal share get no more; and where there are none, the one that has the most
/// is to give some back.
struct EntryPool {
  /// A VLAN of a bridge.
  struct Segment: Hashable {
    var bridge: BridgeID
    var vlan: VLANID
  }

  private let size: Int
  private var free: [UInt32]
  private var held: [Segment: Int] = [:]
  /// Whether there was none for a segment that has less than its share.
  private var isShort = false

  /// Has the numbers from 0.
  init(size: UInt32) {
    self.size = Int(size)
    free = Array(0..<size)
  }

  /// Whether none is in use.
  var isWhole: Bool { free.count == size }

  /// Who is to give some back, so that others have their share; `nil` where that is so.
  var fullest: Segment? { isShort ? held.max { $0.value < $1.value }?.key : nil }

  /// Takes a number for a segment; `nil` where there is none for it.
  mutating func take(for segment: Segment) -> UInt32? {
    let own = held[segment, default: 0]
    // One more may come.
    let share = size / (held.count + 1)
    guard own < share || free.count > size / 8 else { return nil }
    guard let number = free.popLast() else {
      isShort = true
      return nil
    }
    held[segment] = own + 1
    return number
  }

  /// Gives back what was taken for a segment.
  mutating func give(_ number: UInt32, of segment: Segment) {
    isShort = false
    free.append(number)
    held[segment, default: 1] -= 1
    if held[segment] == 0 { held[segment] = nil }
  }
}

extension FlowOffer {
  /// The segment that it is of.
  var segment: EntryPool.Segment { EntryPool.Segment(bridge: bridge, vlan: vlan) }
}
