package import OVXDatapath

/// What may leave a switch, said of frames on the wire alone: whatever it has learned, whoever it
/// floods to.
///
/// `ReferenceSwitch` says what the switch does, step by step, and so may share an error of thought
/// with it. This says what must hold of the result: a frame that leaves by a port is, read there as
/// if it arrived, of the segment that it was of where it came in, is a frame that came in, and has
/// not come from a place that it must not go back to.
package struct SegmentRules {
  private let topology: Topology
  private var arrivals: [Arrival] = []

  /// A frame on a port, its VLAN's tag taken out.
  private struct Reading {
    var vlan: VLANID
    var frame: PartialFrame
    var source: ArraySlice<UInt8> { frame.bytes[6..<12] }
    var target: ArraySlice<UInt8> { frame.bytes[..<6] }
  }

  private struct Arrival {
    var port: Topology.Port
    var reading: Reading
    /// Whether it has to leave byte by byte as it came: it is neither cut nor joined, summed nor
    /// marked.
    var isExact: Bool
  }

  package init(_ topology: Topology) { self.topology = topology }

  /// Notes a frame that a device has brought.
  package mutating func note(_ frame: PartialFrame, tag: VLANTag, from id: PortID) {
    guard let port = topology.port(id), case .device = port.attachment else { return }
    var frame = frame
    if tag.isPresent, frame.bytes.count >= 14 { frame.insertTag(tag) }
    note(frame, on: port, isExact: !frame.offload.isSuperframe && !frame.offload.needsChecksum)
  }

  /// Notes the datagrams that a remote VTEP has sent together.
  package mutating func note(
    datagrams: [[UInt8]], on endpoint: ListenerID, from remote: IPAddress, trafficClass: UInt8
  ) {
    for datagram in datagrams {
      guard datagram.count >= 8 + 14, let number = datagram.number(at: 4, count: 4),
        let vni = VNI(rawValue: UInt32(truncatingIfNeeded: number) >> 8),
        let (port, _) = topology.tunnel(vni: vni, endpoint: endpoint, remote: remote)
      else { continue }
      // A long one may be a superframe that the sender has left whole.
      let isExact = datagrams.count == 1 && datagram.count <= 600 && trafficClass & 3 == 0
      note(PartialFrame(Array(datagram[8...])), on: port, isExact: isExact)
    }
  }

  private mutating func note(_ frame: PartialFrame, on port: Topology.Port, isExact: Bool) {
    guard let reading = Self.read(frame, on: port) else { return }
    arrivals.append(Arrival(port: port, reading: reading, isExact: isExact))
  }

  /// The segment that a frame is of, on a port of that kind; `nil` for none.
  private static func read(_ frame: PartialFrame, on port: Topology.Port) -> Reading? {
    guard frame.bytes.count >= 14 else { return nil }
    if case .dot1qTunnel(let service, _, _) = port.vlans {
      return Reading(vlan: service, frame: frame)
    }
    var frame = frame
    var named = VLANID.untagged
    if frame.hasTag {
      guard let tag = frame.firstTag else { return nil }
      named = tag.vlan
      frame.removeTag()
    }
    guard frame.bytes.count >= 14 else { return nil }
    let vlan: VLANID
    switch port.vlans {
    case .access(let only):
      guard named == .untagged else { return nil }
      vlan = only
    case .nativeTagged(let native, _), .nativeUntagged(let native, _):
      vlan = named == .untagged ? native : named
    case .trunk, .dot1qTunnel: vlan = named
    }
    return port.vlans.includes(vlan) ? Reading(vlan: vlan, frame: frame) : nil
  }

  /// What of all that has been sent must not be, in words; `nil` where all of it may.
  package func violation(in sent: [Sent]) -> String? {
    for sent in sent {
      let (id, frame) =
        switch sent {
        case .frame(let frame, let port): (port, frame)
        case .datagram(let bytes, _, let port, _): (port, PartialFrame(Array(bytes.dropFirst(8))))
        }
      guard let port = topology.port(id), let reading = Self.read(frame, on: port) else {
        return "Port \(id.rawValue) sends what is of no segment there: \(frame.bytes.hexadecimal)"
      }
      var readings = [reading]
      // A tag for the priority alone, which would be the customer's on such a port if it arrived.
      if case .dot1qTunnel = port.vlans, port.priorityTags != .never,
        frame.firstTag?.vlan == .untagged
      {
        readings.append(reading)
        readings[1].frame.removeTag()
      }
      let isAllowed = readings.contains { reading in
        arrivals.contains { mayLeave(reading, by: port, of: $0) }
      }
      if !isAllowed {
        return "Port \(id.rawValue) sends what nothing that arrived allows, in VLAN "
          + "\(reading.vlan): \(frame.bytes.hexadecimal)"
      }
    }
    return nil
  }

  private func mayLeave(_ reading: Reading, by port: Topology.Port, of arrival: Arrival) -> Bool {
    let came = arrival.reading
    guard arrival.port.bridge == port.bridge, came.vlan == reading.vlan else { return false }
    // The switch's own answer, to who has asked.
    if port.id == arrival.port.id { return reading.target == came.source }
    guard port.isJoined(to: arrival.port), came.source == reading.source else { return false }
    guard arrival.isExact, !reading.frame.offload.isSuperframe,
      !reading.frame.offload.needsChecksum
    else { return true }
    // A question for one neighbor may be put to that one, what a tunnel brings unsummed is summed,
    // and zeros follow where Ethernet or the datagrams of a train want it longer.
    let isFromTunnel = if case .tunnel = arrival.port.attachment { true } else { false }
    let before = Self.lasting(came.frame.bytes, isFromTunnel)
    let after = Self.lasting(reading.frame.bytes, isFromTunnel)
    return after.starts(with: before) && after.dropFirst(before.count).allSatisfy { $0 == 0 }
  }

  /// What stays as it is of a frame on its way.
  private static func lasting(_ bytes: [UInt8], _ isFromTunnel: Bool) -> ArraySlice<UInt8> {
    var bytes = bytes
    if isFromTunnel, let packet = FrameAnatomy(bytes)?.packet, packet.isTCP || packet.isUDP {
      bytes.setNumber(UInt16(0), at: packet.transport + (packet.isTCP ? 16 : 6))
    }
    return bytes[6...]
  }
}
