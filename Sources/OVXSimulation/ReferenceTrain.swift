package import OVXDatapath

extension ReferenceSwitch {
  /// What becomes of datagrams that a socket received in one piece: all but the last of one size.
  ///
  /// Each begins with a VXLAN header, so that they cannot be one superframe.
  package mutating func receive(
    train: [[UInt8]], on endpoint: ListenerID, from remote: IPAddress, trafficClass: UInt8 = 0
  ) -> Outcome {
    var outcome = Outcome()
    for datagram in train {
      if topology.hasRemote(remote), datagram.count >= 22, datagram[0] & 0x08 != 0,
        datagram[4...6] != train[0][4...6]
      {
        let vni = VNI(
          rawValue: UInt32(truncatingIfNeeded: datagram.number(at: 3, count: 4) ?? 0) & 0xFF_FFFF)
        let isKnown =
          vni.flatMap { topology.tunnel(vni: $0, endpoint: endpoint, remote: remote) } != nil
        outcome += Outcome(drops: [Drop(reason: isKnown ? .mixedVNIs : .unknownVNI, port: .none)])
      } else {
        outcome += receive(
          datagram: datagram, on: endpoint, from: remote, trafficClass: trafficClass,
          isInTrain: train.count > 1)
      }
    }
    return outcome
  }
}

extension [UInt8] {
  /// Whether the frame is as long as its own headers say, or longer.
  package var holdsItsLengths: Bool {
    var at = 12
    for tags in 0... {
      guard let type = number16(at: at) else { return false }
      guard type == 0x8100 || type == 0x88A8 else { break }
      // The switch looks behind three tags.
      if tags == 3 { return false }
      at += 4
    }
    let type = number16(at: at) ?? 0
    let packet = Array(dropFirst(at + 2))
    if type < 0x0600 { return packet.count >= Int(type) }
    if type == 0x0806 {
      return packet.count >= 8 && packet.count >= 8 + 2 * (Int(packet[4]) + Int(packet[5]))
    }
    if type == 0x0800 {
      guard packet.count >= 20, Int(packet[2]) << 8 + Int(packet[3]) <= packet.count else {
        return false
      }
    }
    if type == 0x86DD {
      guard packet.count >= 40, 40 + Int(packet[4]) << 8 + Int(packet[5]) <= packet.count else {
        return false
      }
    }
    guard let inner = FrameAnatomy(self)?.packet, inner.isUDP, inner.transport + 8 <= inner.end
    else { return true }
    return inner.transport + Int(number16(at: inner.transport + 4) ?? 0) <= inner.end
  }
}
