internal import OVXDatapath

// Puts a described frame together. What was not said is zero, or what a sender would write.

extension FrameDescription {
  /// The frame's bytes, with lengths and checksums filled in.
  ///
  /// - Throws: What is missing, or does not fit into the size that was asked for.
  func bytes() throws(ControlError) -> [UInt8] {
    if let wholeFrame {
      let others = given.filter { !["hex", "tun_src", "tun_id"].contains($0) }
      guard others.isEmpty, kind == nil else {
        throw ControlError(
          "hex= gives the whole frame, so \(others.first ?? kind?.rawValue ?? "") cannot be given beside it"
        )
      }
      return wholeFrame
    }
    guard let source else {
      throw ControlError(
        "the frame has no src=, the Ethernet address that it comes from, like src=02:00:00:00:00:01"
      )
    }
    guard let destination = destination ?? impliedDestination else {
      throw ControlError(
        "the frame has no dst=, the Ethernet address that it goes to, like dst=02:00:00:00:00:02")
    }
    var frame = destination.octets + source.octets
    for (index, vlan) in vlans.enumerated() {
      // Of two tags, the outer one is a service tag, unless said otherwise.
      let outer: UInt16 = vlans.count > 1 ? 0x88A8 : 0x8100
      frame.append16(index == 0 ? tagProtocol ?? outer : 0x8100)
      frame.append16(UInt16(priority) << 13 | vlan.rawValue)
    }
    let type = etherType ?? impliedEtherType
    guard let type else {
      throw ControlError(
        "the frame has neither a protocol nor type=; protocols are "
          + Kind.allCases.map(\.rawValue).joined(separator: ", "))
    }
    frame.append16(type)
    let headers = frame.count
    let body = try body(room: size.map { $0 - headers })
    frame += body
    guard frame.count <= TracedFrame.byteLimit else {
      throw ControlError(
        "the frame has \(frame.count) bytes; \(TracedFrame.byteLimit) are the most")
    }
    return frame
  }

  private var impliedDestination: MACAddress? {
    if kind == .arp, operation ?? 1 == 1 { return .broadcast }
    if kind == .icmp6, let neighbor, icmpType ?? 135 == 135 {
      return MACAddress(truncating: 0x3333_FF00_0000 | neighbor.low & 0xFF_FFFF)
    }
    return nil
  }

  private var impliedEtherType: UInt16? {
    switch kind {
    case nil: nil
    case .arp: 0x0806
    case .some(let kind): kind.isIPv6 ? 0x86DD : 0x0800
    }
  }

  /// What stands behind the Ethernet header and its tags, as long as there is room where that was
  /// said.
  private func body(room: Int?) throws(ControlError) -> [UInt8] {
    var body: [UInt8] = []
    switch kind {
    case nil: break
    case .arp: body = arp()
    case .some(let kind):
      let network = kind.isIPv6 ? 40 : 20
      let fixed = transportHeader(kind, payloadCount: 0).count
      let payload = max(0, (room ?? 0) - network - fixed)
      let transport = transportHeader(kind, payloadCount: payload)
      let segment = transport + [UInt8](repeating: 0, count: payload)
      guard network + segment.count <= (kind.isIPv6 ? 65_575 : 65_535) else {
        throw ControlError("an IP packet has 65535 bytes at most; give a smaller size=")
      }
      body = packet(kind, segment)
    }
    if let room {
      guard body.count <= room else {
        throw ControlError(
          "the frame's size=\(size ?? 0) is smaller than its headers, \((size ?? 0) - room + body.count) bytes"
        )
      }
      body += [UInt8](repeating: 0, count: room - body.count)
    }
    return body
  }

  /// RFC 826.
  private func arp() -> [UInt8] {
    var packet: [UInt8] = [0, 1, 8, 0, 6, 4]
    packet.append16(operation ?? 1)
    packet += (senderHardware ?? source ?? .broadcast).octets
    packet += (sourceIP ?? IPAddress(v4: 0)).octets
    packet += (targetHardware ?? MACAddress(truncating: 0)).octets
    return packet + (destinationIP ?? IPAddress(v4: 0)).octets
  }

  private func transportHeader(_ kind: Kind, payloadCount: Int) -> [UInt8] {
    var header: [UInt8] = []
    switch kind {
    case .arp, .ip, .ipv6: break
    case .icmp:
      header = [icmpType ?? 8, icmpCode ?? 0, 0, 0, 0, 0, 0, 0]
    case .icmp6:
      let type = icmpType ?? (neighbor == nil ? 128 : 135)
      header = [type, icmpCode ?? 0, 0, 0, 0, 0, 0, 0]
      if let neighbor {
        // RFC 4861, sections 4.3 and 4.4: the target, and the address of the link that belongs to
        // it or to the sender.
        header += neighbor.octets + [type == 136 ? 2 : 1, 1] + (source ?? .broadcast).octets
      }
    case .tcp, .tcp6:
      header.append16(sourcePort ?? 0)
      header.append16(destinationPort ?? 0)
      header += [0, 0, 0, 0, 0, 0, 0, 0, 0x50, tcpFlags ?? 0x10, 0xFF, 0xFF, 0, 0, 0, 0]
    case .udp, .udp6:
      header.append16(sourcePort ?? 0)
      header.append16(destinationPort ?? 0)
      header.append16(UInt16(clamping: 8 + payloadCount))
      header += [0, 0]
    case .sctp, .sctp6:
      header.append16(sourcePort ?? 0)
      header.append16(destinationPort ?? 0)
      header += [0, 0, 0, 0, 0, 0, 0, 0]
    }
    return header
  }

  private func packet(_ kind: Kind, _ segment: [UInt8]) -> [UInt8] {
    let number: UInt8 =
      switch kind {
      case .icmp: 1
      case .icmp6: 58
      case .tcp, .tcp6: 6
      case .udp, .udp6: 17
      case .sctp, .sctp6: 132
      case .ip, .ipv6, .arp: ipProtocol ?? 253
      }
    let unspecified = kind.isIPv6 ? IPAddress(v6High: 0, low: 0) : IPAddress(v4: 0)
    let addresses = (sourceIP ?? unspecified).octets + (destinationIP ?? solicited).octets
    let isAboutNeighbors = kind == .icmp6 && neighbor != nil
    let life = timeToLive ?? (isAboutNeighbors ? 255 : 64)
    var header: [UInt8] = []
    if kind.isIPv6 {
      header.append16(0x6000 | UInt16(typeOfService ?? 0) << 4)
      header += [0, 0]
      header.append16(UInt16(clamping: segment.count))
      header += [number, life] + addresses
    } else {
      header = [0x45, typeOfService ?? 0]
      header.append16(UInt16(clamping: 20 + segment.count))
      header += [0, 0, 0x40, 0, life, number, 0, 0] + addresses
      header.set16(10, checksum([header]))
    }
    var pseudo = addresses
    pseudo.append16(UInt16(truncatingIfNeeded: segment.count >> 16))
    pseudo.append16(UInt16(truncatingIfNeeded: segment.count))
    pseudo += [0, number]
    var segment = segment
    let place: Int? =
      switch kind {
      case .tcp, .tcp6: 16
      case .udp, .udp6: 6
      case .icmp, .icmp6: 2
      default: nil
      }
    if let place {
      if segmentSize != nil {
        // The segments are summed when they are cut; till then the pseudo-header's sum stands
        // there.
        segment.set16(place, ~checksum([pseudo]))
      } else {
        let sum = checksum(kind == .icmp ? [segment] : [pseudo, segment])
        segment.set16(place, sum == 0 && place == 6 ? 0xFFFF : sum)
      }
    }
    return header + segment
  }

  /// Where a solicitation goes: the solicited-node address of its target (RFC 4291, section 2.7.1).
  private var solicited: IPAddress {
    guard kind?.isIPv6 == true else { return IPAddress(v4: 0) }
    guard let neighbor, icmpType ?? 135 == 135 else { return IPAddress(v6High: 0, low: 0) }
    return IPAddress(v6High: 0xFF02 << 48, low: 0x1_FF00_0000 | neighbor.low & 0xFF_FFFF)
  }
}

/// The Internet checksum of pieces of even length, of which the last may be odd.
private func checksum(_ pieces: [[UInt8]]) -> UInt16 {
  var sum = InternetSum()
  for piece in pieces {
    for index in stride(from: 0, to: piece.count, by: 2) {
      let low = index + 1 < piece.count ? piece[index + 1] : 0
      sum.add(UInt64(piece[index]) << 8 | UInt64(low))
    }
  }
  return sum.checksum
}

extension [UInt8] {
  fileprivate mutating func append16(_ value: UInt16) {
    append(UInt8(truncatingIfNeeded: value >> 8))
    append(UInt8(truncatingIfNeeded: value))
  }

  fileprivate mutating func set16(_ place: Int, _ value: UInt16) {
    self[place] = UInt8(truncatingIfNeeded: value >> 8)
    self[place + 1] = UInt8(truncatingIfNeeded: value)
  }
}
