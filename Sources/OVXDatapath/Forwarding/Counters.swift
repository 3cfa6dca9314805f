/// What a port has carried and lost since it was made.
///
/// A superframe counts as one frame on a device that gave or took it whole; on a tunnel each
/// datagram counts.
package struct PortCounters: Equatable, Sendable {
  package var receivedFrames: UInt64 = 0
  package var receivedBytes: UInt64 = 0
  package var sentFrames: UInt64 = 0
  package var sentBytes: UInt64 = 0
  /// Frames received that asked for a neighbor, and were answered instead of forwarded.
  package var answeredFrames: UInt64 = 0
  /// Frames received that were too large for where they were to go, and whose senders were told so
  /// by ICMP.
  package var reportedFrames: UInt64 = 0
  /// Frames received that were for a group, and that nobody else was there to hear: a host's first
  /// words on a bridge of its own are not lost.
  package var unheardFrames: UInt64 = 0
  package var dropsByReason: [UInt64] = Array(repeating: 0, count: DropReason.allCases.count)

  package init() {}

  /// The number of frames lost for one reason.
  package subscript(reason: DropReason) -> UInt64 {
    get { dropsByReason[Int(reason.rawValue)] }
    set { dropsByReason[Int(reason.rawValue)] = newValue }
  }
}

/// The counters of all ports, and a line of drops for what belongs to no port.
struct CounterTable: ~Copyable {
  struct Traffic: BitwiseCopyable {
    var receivedFrames: UInt64 = 0
    var receivedBytes: UInt64 = 0
    var sentFrames: UInt64 = 0
    var sentBytes: UInt64 = 0
  }

  private static let reasonCount = DropReason.allCases.count
  private var traffic = IDTable<PortID, Traffic>(repeating: Traffic(), count: PortID.limit)
  private var answeredFrames = IDTable<PortID, UInt64>(zeros: PortID.limit)
  private var reportedFrames = IDTable<PortID, UInt64>(zeros: PortID.limit)
  private var unheardFrames = IDTable<PortID, UInt64>(zeros: PortID.limit)
  private var drops = FixedArray<UInt64>(zeros: (PortID.limit + 1) * reasonCount)
  /// How often something has come from each remote of a tunnel: batches of datagrams, or what the
  /// fast path has forwarded.
  ///
  /// Only whether it changes means something.
  private var signs = IDTable<RemoteVTEPID, UInt64>(zeros: RemoteVTEPID.limit)
  /// Frames that came so far.
  var frameCount: Int64 = 0
  /// What is dropped, for those who want to see it.
  var journal = DropJournal()

  @inline(__always) mutating func received(byteCount: Int, from port: PortID) {
    traffic[port].receivedFrames &+= 1
    traffic[port].receivedBytes &+= UInt64(truncatingIfNeeded: byteCount)
  }

  /// Takes note that a remote of a tunnel is there.
  @inline(__always) mutating func heard(_ peer: RemoteVTEPID) { signs[peer] &+= 1 }

  /// A number that has changed where something has come from a remote since.
  func signs(of peer: RemoteVTEPID) -> UInt64 { signs.contains(peer) ? signs[peer] : 0 }

  @inline(__always) mutating func sent(byteCount: Int, frames: Int, to port: PortID) {
    traffic[port].sentFrames &+= UInt64(truncatingIfNeeded: frames)
    traffic[port].sentBytes &+= UInt64(truncatingIfNeeded: byteCount)
  }

  /// Counts what was forwarded without the switch: at a tunnel's end each packet, at a device's
  /// each superframe.
  mutating func forwarded(
    from ingress: PortID, isTunnel isFromTunnel: Bool, to egress: PortID, isTunnel: Bool,
    frames: UInt64, segments: UInt64, byteCount: UInt64
  ) {
    traffic[ingress].receivedFrames &+= isFromTunnel ? segments : frames
    traffic[ingress].receivedBytes &+= byteCount
    traffic[egress].sentFrames &+= isTunnel ? segments : frames
    traffic[egress].sentBytes &+= byteCount
  }

  /// The frames sent to a port.
  func sentFrames(to port: PortID) -> UInt64 { traffic[port].sentFrames }

  /// Takes back what was counted as sent and was not.
  mutating func notSent(frames: Int, to port: PortID) {
    guard traffic.contains(port) else { return }
    traffic[port].sentFrames &-= UInt64(truncatingIfNeeded: frames)
  }

  /// Counts a question of a port that was answered.
  mutating func answered(at port: PortID) { answeredFrames[port] &+= 1 }

  /// Counts a frame of a port that was too large, and was answered.
  mutating func reported(at port: PortID) { reportedFrames[port] &+= 1 }

  /// Counts a frame of a port that was for a group, and that no other port was to get.
  mutating func unheard(at port: PortID) { unheardFrames[port] &+= 1 }

  /// Counts frames lost at a port; `PortID.none` stands for no port.
  mutating func dropped(_ reason: DropReason, frames: Int, at port: PortID) {
    let line = min(Int(port.rawValue), PortID.limit)
    drops[line * CounterTable.reasonCount + Int(reason.rawValue)] &+=
      UInt64(truncatingIfNeeded: frames)
    if journal.isOpen { journal.note(reason, frames: frames, at: port, frame: frameCount) }
  }

  /// Counts on from what was counted elsewhere, modulo 2⁶⁴.
  mutating func add(_ former: PortCounters, to port: PortID) {
    if traffic.contains(port) {
      traffic[port].receivedFrames &+= former.receivedFrames
      traffic[port].receivedBytes &+= former.receivedBytes
      traffic[port].sentFrames &+= former.sentFrames
      traffic[port].sentBytes &+= former.sentBytes
      answeredFrames[port] &+= former.answeredFrames
      reportedFrames[port] &+= former.reportedFrames
      unheardFrames[port] &+= former.unheardFrames
    }
    let line = min(Int(port.rawValue), PortID.limit)
    for reason in DropReason.allCases {
      drops[line * CounterTable.reasonCount + Int(reason.rawValue)] &+= former[reason]
    }
  }

  /// Starts a port's counters anew.
  mutating func reset(_ port: PortID) {
    traffic[port] = Traffic()
    answeredFrames[port] = 0
    reportedFrames[port] = 0
    unheardFrames[port] = 0
    for reason in 0..<CounterTable.reasonCount {
      drops[Int(port.rawValue) * CounterTable.reasonCount + reason] = 0
    }
  }

  /// The counters of a port, or the drops of no port.
  func counters(of port: PortID) -> PortCounters {
    var result = PortCounters()
    let line = min(Int(port.rawValue), PortID.limit)
    if traffic.contains(port) {
      result.receivedFrames = traffic[port].receivedFrames
      result.receivedBytes = traffic[port].receivedBytes
      result.sentFrames = traffic[port].sentFrames
      result.sentBytes = traffic[port].sentBytes
      result.answeredFrames = answeredFrames[port]
      result.reportedFrames = reportedFrames[port]
      result.unheardFrames = unheardFrames[port]
    }
    for reason in 0..<CounterTable.reasonCount {
      result.dropsByReason[reason] = drops[line * CounterTable.reasonCount + reason]
    }
    return result
  }
}
