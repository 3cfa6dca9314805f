internal import OVXDatapath

/// The frame by which a switch tells the sender of a frame that its packet is too large: RFC 1191
/// and RFC 4443, section 3.2.
///
/// `nil` where nothing may be said: RFC 1122, section 3.2.2, and RFC 4443, section 2.4 (e). `mtu`
/// is the largest packet that fits, in bytes.
package func packetTooBigAnswer(to frame: [UInt8], mtu: Int) -> [UInt8]? {
  guard let anatomy = FrameAnatomy(frame), let packet = anatomy.packet, anatomy.tags.count <= 3
  else { return nil }
  let network = anatomy.network
  let tags = Array(frame[12..<network])
  var answer: [UInt8] = []
  answer.append(address: anatomy.source)
  answer.append(address: anatomy.destination)
  answer += tags
  let bytes = Array(frame[network..<packet.end])
  if packet.isIPv6 {
    guard mtu >= 1280, isStation(v6: bytes[8..<24]), isStation(v6: bytes[24..<40]),
      mayBeAnswered(v6: bytes)
    else { return nil }
    let quote = bytes.prefix(1232)
    var message: [UInt8] = [2, 0, 0, 0]
    message.append(number: UInt32(mtu))
    message += quote
    var pseudo = Array(bytes[24..<40] + bytes[8..<24])
    pseudo.append(number: UInt32(message.count))
    pseudo += [0, 0, 0, 58]
    message.setNumber(~onesComplementSum((pseudo + message)[...]), at: 2)
    answer += [0x60, 0, 0, 0]
    answer.append(number: UInt16(message.count))
    answer += [58, 64]
    return answer + bytes[24..<40] + bytes[8..<24] + message
  }
  let isFirst = bytes.number16(at: 6).map { $0 & 0x1FFF == 0 } ?? false
  guard mtu >= 68, isFirst, isStation(v4: bytes[12..<16]), isStation(v4: bytes[16..<20])
  else { return nil }
  if packet.transportProtocol == 1 {
    let queries: Set<UInt8> = [0, 8, 9, 10, 13, 14, 15, 16, 17, 18, 42, 43]
    let header = packet.transport - network
    guard header < bytes.count, queries.contains(bytes[header]) else { return nil }
  }
  var message: [UInt8] = [3, 4, 0, 0, 0, 0]
  message.append(number: UInt16(min(mtu, 65_535)))
  message += bytes.prefix(548)
  message.setNumber(~onesComplementSum(message[...]), at: 2)
  var header: [UInt8] = [0x45, 0xC0]
  header.append(number: UInt16(20 + message.count))
  header += [0, 0, 0x40, 0, 64, 1, 0, 0] + bytes[16..<20] + bytes[12..<16]
  header.setNumber(~onesComplementSum(header[...]), at: 10)
  return answer + header + message
}

private func isStation(v4 address: ArraySlice<UInt8>) -> Bool {
  guard let first = address.first else { return false }
  return first != 0 && first != 127 && first < 224
}

private func isStation(v6 address: ArraySlice<UInt8>) -> Bool {
  let octets = Array(address)
  let isUnspecifiedOrLoopback = octets[..<15].allSatisfy { $0 == 0 } && octets[15] <= 1
  let isMapped = octets[..<10].allSatisfy { $0 == 0 } && octets[10] == 0xFF && octets[11] == 0xFF
  return octets[0] != 0xFF && !isUnspecifiedOrLoopback && !isMapped
}

/// Whether a packet is neither an error, nor may hide one, nor a fragment that is not the first.
private func mayBeAnswered(v6 packet: [UInt8]) -> Bool {
  var next = packet[6]
  var offset = 40
  for _ in 0..<8 where [0, 43, 44, 60].contains(next) {
    guard let length = packet.number(at: offset + 1, count: 1) else { return false }
    let isFragment = next == 44
    next = packet[offset]
    if isFragment {
      guard let field = packet.number16(at: offset + 2), field & 0xFFF8 == 0 else { return false }
      offset += 8
      if field & 1 != 0 { break }
    } else {
      offset += (Int(length) + 1) * 8
    }
  }
  if [0, 43, 44, 60].contains(next) { return false }
  guard next == 58 else { return true }
  guard offset < packet.count else { return false }
  return packet[offset] >= 128 && packet[offset] != 137
}

/// Whether a VXLAN datagram holds nothing but an answer that a packet was too big.
package func saysPacketTooBig(_ datagram: [UInt8]) -> Bool {
  let frame = Array(datagram.dropFirst(8))
  guard let packet = FrameAnatomy(frame)?.packet, packet.transport + 2 <= packet.end else {
    return false
  }
  let message = frame[packet.transport..<packet.transport + 2]
  return packet.isIPv6
    ? packet.transportProtocol == 58 && message.elementsEqual([2, 0])
    : packet.transportProtocol == 1 && message.elementsEqual([3, 4])
}
