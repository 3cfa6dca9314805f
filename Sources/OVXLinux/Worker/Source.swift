internal import OVXDatapath

// A *source* is what a worker reads: a port's device, or one of a listener's sockets.

extension Receiver {
  enum Kind: UInt8 {
    case tap
    case packet
    case udp
  }

  struct Source {
    var descriptor: Int32 = -1
    /// The place in the ring's file table, 0 for none.
    var file: UInt32 = 0
    /// Goes up with each opening, so that a late poll of what was open before is recognised.
    var generation: UInt16 = 0
    var kind = Kind.tap
    /// Reads in the next batch.
    var depth: UInt8 = 2
    /// For an endpoint's socket: the port of all that it gets, where that is known.
    var port = PortID.none
    /// Whether it is for this worker to tell what happens to it.
    var isReporter = true
    /// Whether this worker reads it.
    var isRead = true
    /// Broken: not read any more.
    var isLost = false
    /// Failed for a reason that may pass, or had nothing when it was said to be ready: to be read
    /// again at the next tick.
    var isStalled = false
    /// Not said to be ready again since a tick had it read.
    var isRetried = false
    /// Brought something since the last tick.
    var hasReceived = false
    /// Datagrams that the socket had dropped when it was last asked.
    var knownDrops: UInt32 = 0
    /// Whether it has a poll.
    var isWatched = false
    /// Whether it is left alone for a moment.
    var isPaused = false
    var moderation = Moderation()
  }

  /// Sources are numbered: the ports, then the first sockets of the endpoints, then the others of
  /// those that have more.
  static let sourceLimit =
    PortID.limit + ListenerID.limit + VNIQueues.endpointLimit * (VNIQueues.count - 1)

  /// The number of a port's source; `nil` for a number that no port has.
  static func source(of port: PortID) -> Int? {
    Int(port.rawValue) < PortID.limit ? Int(port.rawValue) : nil
  }

  /// The number of the source that one of an endpoint's sockets is; `nil` where no endpoint has
  /// such a one.
  static func source(of endpoint: ListenerID, queue: Int) -> Int? {
    let number = Int(endpoint.rawValue)
    guard queue > 0 else { return number < ListenerID.limit ? PortID.limit + number : nil }
    guard number < VNIQueues.endpointLimit, queue < VNIQueues.count else { return nil }
    return PortID.limit + ListenerID.limit + number * (VNIQueues.count - 1) + queue - 1
  }

  /// The endpoint of a source that is no port's.
  static func endpoint(of source: Int) -> ListenerID {
    let number = source &- PortID.limit
    guard number >= ListenerID.limit else {
      return ListenerID(rawValue: UInt16(truncatingIfNeeded: number))
    }
    return ListenerID(
      rawValue: UInt16(
        truncatingIfNeeded: (number &- ListenerID.limit) / (VNIQueues.count &- 1)))
  }
}
