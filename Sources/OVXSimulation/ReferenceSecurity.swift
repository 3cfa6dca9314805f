internal import OVXDatapath

/// What `port_security` says of a frame: everything that the frame tells of its sender, in a list,
/// and the first of it that is not so.
struct ReferenceSecurity {
  private let security: PortSecurity
  /// How far into the frame something was read that must stay as it is.
  private var examined = 14
  private var statements: [Statement] = []

  /// Something that a frame says, and what it is dropped for where that is not so.
  private enum Statement {
    case isMyStation(MACAddress, DropReason)
    case isMyAddress([UInt8], DropReason)
    case isNoGateway([UInt8])
    case isNeverSent(DropReason)
  }

  /// Why a port may not send a frame, which has none of the port's tags any more.
  static func refusal(of frame: PartialFrame, by security: PortSecurity) -> DropReason? {
    var reading = ReferenceSecurity(security: security)
    reading.read(frame)
    for statement in reading.statements {
      if let reason = reading.contradiction(statement) { return reason }
    }
    let place = Int(frame.offload.checksumStart) + Int(frame.offload.checksumOffset)
    return frame.offload.needsChecksum && place < reading.examined ? .malformedOffload : nil
  }

  private init(security: PortSecurity) { self.security = security }

  // MARK: What is true

  private func contradiction(_ statement: Statement) -> DropReason? {
    switch statement {
    case .isNeverSent(let reason): return reason
    case .isMyStation(let station, let reason):
      if station == security.gatewayStation { return .gatewayAddress }
      return security.stations?.contains(station) ?? true ? nil : reason
    case .isNoGateway(let octets): return isGateway(octets) ? .gatewayAddress : nil
    case .isMyAddress(let octets, let reason):
      if isGateway(octets) { return .gatewayAddress }
      return isMine(octets) ? nil : reason
    }
  }

  private func isGateway(_ octets: [UInt8]) -> Bool {
    security.gateways.contains { $0.octets == octets }
      || security.gatewayStation.map { Self.linkLocal($0) == octets } ?? false
  }

  private func isMine(_ octets: [UInt8]) -> Bool {
    guard let addresses = security.addresses else { return true }
    return addresses.contains { prefix in
      prefix.base.octets.count == octets.count
        && Self.bits(prefix.base.octets).prefix(prefix.length).elementsEqual(
          Self.bits(octets).prefix(prefix.length))
    } || security.stations?.contains { Self.linkLocal($0) == octets } ?? false
  }

  private static func bits(_ octets: [UInt8]) -> [Bool] {
    octets.flatMap { octet in (0..<8).map { octet >> UInt8(7 - $0) & 1 == 1 } }
  }

  /// RFC 4291, appendix A: the universal/local bit is the other way round, and FF:FE goes in the
  /// middle.
  private static func linkLocal(_ station: MACAddress) -> [UInt8] {
    let octets = station.octets
    return [0xFE, 0x80, 0, 0, 0, 0, 0, 0, octets[0] ^ 2, octets[1], octets[2], 0xFF, 0xFE]
      + octets[3...]
  }

  // MARK: What a frame says

  private mutating func read(_ frame: PartialFrame) {
    let bytes = frame.bytes
    guard let source = bytes.address(at: 6) else { return }
    statements.append(.isMyStation(source, .macNotAllowed))
    var types = [bytes.number16(at: 12)]
    while types.last == 0x8100 || types.last == 0x88A8 {
      types.append(bytes.number16(at: 12 + 4 * types.count))
    }
    guard types.count <= 4, let type = types.last ?? nil else {
      return statements.append(.isNeverSent(.hiddenHeaders))
    }
    let start = 10 + 4 * types.count
    let packet = Array(bytes.dropFirst(start))
    examined = start
    switch type {
    case 0x0800: read(ipv4: packet)
    case 0x86DD: read(ipv6: packet, frame.offload)
    case 0x0806: read(arp: packet)
    case ..<0x0600:
      if packet.count >= 2, packet[0] & 0xFE == 0xAA, packet[1] & 0xFE == 0xAA {
        statements.append(.isNeverSent(.hiddenHeaders))
      }
    default: break
    }
  }

  private mutating func read(ipv4 packet: [UInt8]) {
    guard packet.count >= 20, packet[0] >> 4 == 4, packet[0] & 15 >= 5,
      let length = packet.number16(at: 2).map({ Int($0) }), length <= packet.count,
      length >= Int(packet[0] & 15) * 4
    else { return statements.append(.isNeverSent(.hiddenHeaders)) }
    let header = Int(packet[0] & 15) * 4
    examined += header
    let source = Array(packet[12..<16])
    statements.append(.isNoGateway(source))
    let fragment = packet.number16(at: 6) ?? 0
    if packet[9] == 1, fragment & 0x1FFF == 0 {
      let message = packet[header..<length]
      guard message.count >= 4 else { return statements.append(.isNeverSent(.hiddenHeaders)) }
      examined += 2
      if [5, 9].contains(packet[header]) { statements.append(.isNeverSent(.routerAdvertisement)) }
    }
    guard packet[9] == 17, fragment & 0x1FFF == 0 else {
      return statements.append(.isMyAddress(source, .ipNotAllowed))
    }
    guard let ports = readPorts(Array(packet[header..<length])) else { return }
    if ports.source == 67 || ports.destination == 68 {
      statements.append(.isNeverSent(.dhcpServer))
    }
    let isWhole = fragment & 0x2000 == 0
    if source == [0, 0, 0, 0], isWhole, ports == (68, 67) { return }
    statements.append(.isMyAddress(source, .ipNotAllowed))
  }

  /// Ports of UDP, which have to be there, with the rest of their header.
  private mutating func readPorts(_ datagram: [UInt8]) -> (source: UInt16, destination: UInt16)? {
    guard datagram.count >= 8, let source = datagram.number16(at: 0),
      let destination = datagram.number16(at: 2)
    else {
      statements.append(.isNeverSent(.hiddenHeaders))
      return nil
    }
    examined += 6
    return (source, destination)
  }

  private mutating func read(ipv6 packet: [UInt8], _ offload: Offload) {
    guard packet.count >= 40, packet[0] >> 4 == 6, let length = packet.number16(at: 4),
      packet.count >= 40 + Int(length)
    else { return statements.append(.isNeverSent(.hiddenHeaders)) }
    let source = Array(packet[8..<24])
    var rest = packet[40..<40 + Int(length)]
    var next = packet[6]
    var isRouted = false
    var isFragmented = false
    var isCut = false
    for _ in 0..<8 where [0, 43, 44, 60].contains(next) && !isCut {
      guard rest.count >= 8 else {
        return statements.append(.isNeverSent(.hiddenHeaders))
      }
      let header = Array(rest.prefix(8))
      let size = next == 44 ? 8 : (Int(header[1]) + 1) * 8
      guard rest.count >= size else {
        return statements.append(.isNeverSent(.hiddenHeaders))
      }
      if next == 43, header[3] != 0 { isRouted = true }
      if next == 44 {
        isFragmented = true
        let fragment = header.number16(at: 2) ?? 0
        if fragment >> 3 != 0 {
          statements.append(.isMyAddress(source, .ipNotAllowed))
          examined += rest.startIndex + 8
          return
        }
        isCut = fragment & 1 != 0
      }
      next = header[0]
      rest = rest.dropFirst(size)
    }
    examined += rest.startIndex
    statements.append(.isNoGateway(source))
    let upper = Array(rest)
    switch next {
    case 0, 43, 44, 60: statements.append(.isNeverSent(.hiddenHeaders))
    case 17:
      guard let ports = readPorts(upper) else { return }
      if ports.source == 547 || ports.destination == 546 {
        statements.append(.isNeverSent(.dhcpServer))
      }
      statements.append(.isMyAddress(source, .ipNotAllowed))
    case 58:
      guard upper.count >= 4 else { return statements.append(.isNeverSent(.hiddenHeaders)) }
      examined += 2
      if upper[0] == 134 || upper[0] == 137 {
        statements.append(.isNeverSent(.routerAdvertisement))
      }
      let isAnonymous = source.allSatisfy { $0 == 0 }
      if !isAnonymous || ![131, 132, 133, 135, 143].contains(upper[0]) {
        statements.append(.isMyAddress(source, .ipNotAllowed))
      }
      guard [133, 135, 136].contains(upper[0]) else { return }
      let isAlone = !isRouted && !isFragmented && !offload.needsChecksum && !offload.isSuperframe
      guard isAlone, packet[7] == 255, let claims = readDiscovery(upper, in: packet) else {
        return statements.append(.isNeverSent(.neighborNotAllowed))
      }
      statements += claims
    default: statements.append(.isMyAddress(source, .ipNotAllowed))
    }
  }

  /// What a solicitation or a neighbor advertisement says of its sender; `nil` for one that
  /// receivers do not take (RFC 4861, sections 6.1.1 and 7.1), or that says two things at once.
  private func readDiscovery(_ message: [UInt8], in packet: [UInt8]) -> [Statement]? {
    let fixed = message[0] == 133 ? 8 : 24
    var pseudo = Array(packet[8..<40])
    pseudo.append(number: UInt32(message.count))
    pseudo += [0, 0, 0, 58]
    let sum = onesComplementSum(message[...], startingFrom: UInt64(onesComplementSum(pseudo[...])))
    guard message.count >= fixed, message[1] == 0, sum == 0xFFFF else { return nil }
    var options: [(type: UInt8, value: [UInt8])] = []
    var rest = message[fixed...]
    while let type = rest.first {
      guard rest.count >= 8 else { return nil }
      let size = Int(rest[rest.startIndex + 1]) * 8
      guard size > 0, size <= rest.count else { return nil }
      options.append((type, Array(rest.prefix(size).dropFirst(2))))
      rest = rest.dropFirst(size)
    }
    let isAnonymous = packet[8..<24].allSatisfy { $0 == 0 }
    let isForGroup = packet[24] == 0xFF
    let target = fixed == 24 ? Array(message[8..<24]) : []
    if target.first == 0xFF { return nil }
    if isAnonymous, options.contains(where: { $0.type == 1 }) { return nil }
    let solicitedNode: [UInt8] = [0xFF, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xFF]
    if isAnonymous, message[0] == 135, Array(packet[24..<37]) != solicitedNode { return nil }
    if message[0] == 136, isForGroup, message[4] & 0x40 != 0 { return nil }
    // The one that counts is the first of its kind; whoever takes another for it must find the same
    // there.
    let told = options.filter { $0.type == 1 || $0.type == 2 }
    let wanted: UInt8 = message[0] == 136 ? 2 : 1
    var claims: [Statement] = []
    if let first = told.first {
      guard first.type == wanted, first.value.count == 6, let address = first.value.address(at: 0),
        told.allSatisfy({ $0.value == first.value })
      else { return nil }
      claims.append(.isMyStation(address, .neighborNotAllowed))
    }
    if message[0] == 136 || (message[0] == 135 && isAnonymous) {
      claims.append(.isMyAddress(target, .neighborNotAllowed))
    }
    return claims
  }

  private mutating func read(arp packet: [UInt8]) {
    guard packet.count >= 28, packet.number(at: 0, count: 6) == 0x0001_0800_0604,
      let station = packet.address(at: 8)
    else { return statements.append(.isNeverSent(.hiddenHeaders)) }
    examined += 28
    statements.append(.isMyStation(station, .arpNotAllowed))
    let sender = Array(packet[14..<18])
    let isProbe = packet.number16(at: 6) == 1 && sender == [0, 0, 0, 0]
    statements.append(.isMyAddress(isProbe ? Array(packet[24..<28]) : sender, .arpNotAllowed))
  }
}
