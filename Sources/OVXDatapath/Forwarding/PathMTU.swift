// Frames that are too large for where they are to go.
//
// An Ethernet has one frame size, and what exceeds it is lost without a word. A tunnel has what its
// path takes, and that changes; so has a segment with devices of different MTUs. TCP would send the
// same segment again and again. So the switch does what a router does: it tells the sender the MTU
// that fits, by ICMP, as Linux' own tunnels do (`skb_tunnel_check_pmtu`). The answer is from the
// address that the packet was for, since a switch has none.
//
// It goes to the port, and the remote, that the frame came by, in its segment and with its tags,
// and nowhere else. It is not sent for frames that are flooded: who has the destination is not
// known then, and the answer, which comes from its Ethernet address, would teach switches on the
// way that it is here.

/// What a port lost because it was too large, since that was last asked for.
package struct OversizeReport: Equatable, BitwiseCopyable, Sendable {
  /// The port that the frames were to leave by.
  package var port: PortID
  /// For a tunnel, to which remote.
  package var peer: RemoteVTEPID
  /// The largest IP packet that would have fitted the latest of them, in bytes.
  package var mtu: Int
  /// Bytes of the largest of them, without Ethernet header and tags.
  package var largest: Int
}

/// What was too large lately, of a few ports at a time.
struct OversizeWatch: ~Copyable {
  /// Ports at a time; what happens at others is told of once these were.
  private static let capacity = 16
  /// Answers to what comes in by one port, between two ticks of the clock.
  static let answerLimit: UInt16 = 100

  private var reports = FixedArray<OversizeReport>(reserving: OversizeWatch.capacity)
  private var count = 0
  private var answers = IDTable<PortID, UInt16>(zeros: PortID.limit)

  /// Whether there is something to tell of.
  var hasNews: Bool { count > 0 }

  /// Notes a frame that was lost.
  mutating func note(_ place: Destination, mtu: Int, byteCount: Int) {
    for index in 0..<count where reports[index].port == place.port {
      reports[index].peer = place.peer
      reports[index].mtu = mtu
      reports[index].largest = max(reports[index].largest, byteCount)
      return
    }
    guard count < Self.capacity else { return }
    reports[count] = OversizeReport(
      port: place.port, peer: place.peer, mtu: mtu, largest: byteCount)
    count &+= 1
  }

  /// Tells what was noted, and forgets it.
  mutating func take() -> [OversizeReport] {
    defer { count = 0 }
    return (0..<count).map { reports[$0] }
  }

  /// Whether one more frame that came by a port may be answered.
  mutating func takeAnswer(of port: PortID) -> Bool {
    guard answers[port] < Self.answerLimit else { return false }
    answers[port] &+= 1
    return true
  }

  /// Lets frames that come by a port be answered again.
  mutating func allowAnswers(of port: PortID) { answers[port] = 0 }
}

extension Datapath {
  /// Whether frames were lost for their size that `takeOversizeReports` has not told of.
  package var hasOversizeReports: Bool { oversize.hasNews }

  /// Tells which ports have lost frames for their size since this was last called.
  package mutating func takeOversizeReports() -> [OversizeReport] { oversize.take() }

  /// Drops a frame that is too large for where it is to go, and tells its sender what fits.
  ///
  /// - Parameters:
  ///   - frame: The frame, as it came to its egress.
  ///   - reason: What it dies of.
  ///   - place: Where it was to go.
  ///   - limit: The bytes that it might have had, its Ethernet header and the tags inside counted.
  @inline(never)
  mutating func refuseOversize(
    _ frame: inout Frame, _ reason: DropReason, at place: Destination, limit: Int
  ) {
    counters.dropped(reason, frames: 1, at: place.port)
    let layout = frame.layout
    let bytes = unsafe UnsafeRawPointer(frame.start).span(frame.count)
    let offset = layout.networkOffset
    let mtu = limit &- offset
    oversize.note(place, mtu: mtu, byteCount: bytes.byteCount &- offset)
    guard layout.etherType == .ipv4 || layout.etherType == .ipv6, !frame.isFlooded,
      !frame.destination.isGroup
    else { return }
    let isIPv6 = layout.etherType == .ipv6
    guard
      let length = PacketTooBig.byteCount(
        answering: bytes.dropping(offset), isIPv6: isIPv6, mtu: mtu),
      oversize.takeAnswer(of: frame.ingress)
    else { return }
    let asked = unsafe UnsafeRawPointer(frame.start)
    var answer = unsafe makeAnswer(to: frame, byteCount: offset &+ length) { start in
      unsafe EthernetHeader.writeAnswer(to: asked, byteCount: offset, memory: start)
      unsafe PacketTooBig.write(
        answering: asked + offset, isIPv6: isIPv6, mtu: mtu, byteCount: length,
        to: start + offset)
    }
    counters.reported(at: frame.ingress)
    deliver(&answer, to: frame.origin, egress(of: answer.egressClass, by: frame.ingress))
  }

  /// Drops a frame that a tunnel brought and that is larger than a device takes, where
  /// `arrivalOffload` cannot help.
  ///
  /// Of TCP it is a superframe that cannot be cut; anything else is one packet.
  @inline(never)
  mutating func refuseArrival(
    _ frame: inout Frame, _ reason: DropReason, at place: Destination, limit: Int
  ) {
    let layout = frame.layout
    if layout.isIP, layout.transport == .tcp, !layout.isFragment, !layout.isSourceRouted {
      return counters.dropped(reason, frames: 1, at: place.port)
    }
    refuseOversize(&frame, .exceedsDeviceMTU, at: place, limit: limit)
  }
}
