import OVXDatapath
import OVXSimulation
import Testing

/// Messages of RFC 4861, and the checks of its sections 6.1 and 7.1.
@Suite struct NeighborDiscoveryTests {
  private static let sender = IPAddress(v6High: 0xFE80 << 48, low: 0x11)
  private static let target = IPAddress(v6High: 0xFE80 << 48, low: 0x22)
  private static let group = IPAddress(v6High: 0xFF02 << 48, low: 0x1_FF00_0022)
  private static let everybody = IPAddress(v6High: 0xFF02 << 48, low: 1)
  private static let nobody = IPAddress(v6High: 0, low: 0)
  private static let address = MACAddress(truncating: 0x0200_0000_0011)

  /// The IPv6 packet of a message.
  private static func packet(
    _ message: [UInt8], from source: IPAddress = sender, to destination: IPAddress = group,
    hopLimit: UInt8 = 255, extensions: [UInt8] = []
  ) -> [UInt8] {
    let frame = ndOctets(
      from: address, source, to: MACAddress(truncating: 0x3333_0000_0000), destination,
      message: message, hopLimit: hopLimit, extensions: extensions)
    return Array(frame[14...])
  }

  private static func message(
    _ kind: UInt8, flags: UInt8 = 0, target: IPAddress = target, option: UInt8? = 1
  ) -> [UInt8] {
    var message: [UInt8] = [kind, 0, 0, 0, flags, 0, 0, 0]
    if kind == 134 { message += [UInt8](repeating: 0, count: 8) }
    if kind == 135 || kind == 136 {
      message.append(number: target.high)
      message.append(number: target.low)
    }
    guard let option else { return message }
    return message + [option, 1, 2, 0, 0, 0, 0, 0x11]
  }

  private static func isAccepted(_ packet: [UInt8]) -> Bool {
    let memory = GuardedMemory(256)
    return NeighborDiscoveryMessage(memory.view(packet)) != nil
  }

  @Test func solicitation() {
    let memory = GuardedMemory(256)
    let packet = Self.packet(Self.message(135))
    guard let message = NeighborDiscoveryMessage(memory.view(packet)) else {
      Issue.record("refused")
      return
    }
    #expect(message.kind == .neighborSolicitation)
    #expect(message.source == Self.sender)
    #expect(message.destination == Self.group)
    #expect(message.target == Self.target)
    #expect(message.linkLayerAddress == Self.address)
  }

  @Test func advertisementIsWrittenAsItIsRead() {
    for isRouter in [false, true] {
      let packet = written(NeighborDiscoveryMessage.advertisementByteCount) {
        unsafe NeighborDiscoveryMessage.writeAdvertisement(
          of: Self.target, at: Self.address, isRouter: isRouter, to: Self.sender, memory: $0)
      }
      let expected = neighborAnswer(
        from: Self.address, Self.target, isRouter: isRouter, to: Self.address, Self.sender)
      #expect(packet == Array(expected[14...]))
      let memory = GuardedMemory(256)
      guard let message = NeighborDiscoveryMessage(memory.view(packet)) else {
        Issue.record("refused")
        continue
      }
      #expect(message.kind == .neighborAdvertisement)
      #expect(message.isFromRouter == isRouter)
      #expect(message.isSolicited && message.isOverriding)
      #expect(message.target == Self.target && message.linkLayerAddress == Self.address)
    }
  }

  /// Everything that the RFC has a receiver discard.
  @Test func whatIsInvalid() {
    let valid = Self.message(135)
    #expect(Self.isAccepted(Self.packet(valid)))
    #expect(!Self.isAccepted(Self.packet(valid, hopLimit: 254)))
    var message = valid
    message[1] = 1
    #expect(!Self.isAccepted(Self.packet(message)), "code 1")
    message = Self.message(135, target: Self.group)
    #expect(!Self.isAccepted(Self.packet(message)), "the target is a group")
    message = valid
    message[25] = 0
    #expect(!Self.isAccepted(Self.packet(message)), "an option of length 0")
    message[25] = 2
    #expect(!Self.isAccepted(Self.packet(message)), "an option longer than the message")
    #expect(!Self.isAccepted(Self.packet(valid + [14])), "a stump of an option")
    var packet = Self.packet(valid)
    packet[50] ^= 1
    #expect(!Self.isAccepted(packet), "a wrong checksum")
    packet = Self.packet(valid)
    packet[6] = 17
    #expect(!Self.isAccepted(packet), "another protocol")
    // Nobody asks.
    #expect(!Self.isAccepted(Self.packet(valid, from: Self.nobody)), "it has an address after all")
    message = Self.message(135, option: nil)
    #expect(Self.isAccepted(Self.packet(message, from: Self.nobody)))
    #expect(!Self.isAccepted(Self.packet(message, from: Self.nobody, to: Self.everybody)))
    #expect(!Self.isAccepted(Self.packet(message, from: Self.nobody, to: Self.target)))
    // Advertisements.
    message = Self.message(136, flags: 0x40, option: 2)
    #expect(Self.isAccepted(Self.packet(message, to: Self.sender)))
    #expect(!Self.isAccepted(Self.packet(message, to: Self.everybody)), "answers nobody")
    message = Self.message(134)
    #expect(Self.isAccepted(Self.packet(message, to: Self.everybody)))
    let global = IPAddress(v6High: 0xFD00 << 48, low: 1)
    #expect(!Self.isAccepted(Self.packet(message, from: global)), "a router's is link-local")
    message = Self.message(133)
    #expect(Self.isAccepted(Self.packet(message, to: Self.everybody)))
    #expect(!Self.isAccepted(Self.packet(message, from: Self.nobody, to: Self.everybody)))
    #expect(!Self.isAccepted(Self.packet(Self.message(137))), "a redirect is none of them")
  }

  @Test func truncatedAndPadded() {
    for kind in [133, 134, 135, 136] as [UInt8] {
      let packet = Self.packet(Self.message(kind, option: kind == 136 ? 2 : 1))
      #expect(Self.isAccepted(packet))
      #expect(Self.isAccepted(packet + [UInt8](repeating: 9, count: 20)))
      for count in 0..<packet.count { #expect(!Self.isAccepted(Array(packet[..<count]))) }
      // The same with a length in the header that agrees.
      let message = Self.message(kind, option: nil)
      for count in 0..<message.count {
        #expect(!Self.isAccepted(Self.packet(Array(message[..<max(count, 4)]))))
      }
    }
  }

  /// Hosts accept messages behind extension headers, but for a fragment header (RFC 6980, section
  /// 5).
  @Test func extensionHeaders() {
    let message = Self.message(135)
    let (hopByHop, routing, fragment, options): (UInt8, UInt8, UInt8, UInt8) = (0, 43, 44, 60)
    for chain in [[hopByHop], [options], [hopByHop, routing, options, options]] {
      let packet = Self.packet(message, extensions: chain)
      #expect(Self.isAccepted(packet), "\(chain)")
      #expect(Self.isAccepted(packet + [UInt8](repeating: 9, count: 20)), "\(chain), padded")
      for count in 0..<packet.count { #expect(!Self.isAccepted(Array(packet[..<count]))) }
      let memory = GuardedMemory(256)
      let view = NeighborDiscoveryMessage(memory.view(packet))
      #expect(view?.target == Self.target && view?.linkLayerAddress == Self.address)
    }
    for chain in [[fragment], [options, fragment], [fragment, options]] {
      #expect(!Self.isAccepted(Self.packet(message, extensions: chain)), "\(chain)")
      var whole = Self.packet(message, extensions: chain)
      // The fragment header of a packet that was never cut (RFC 6946).
      if let place = chain.firstIndex(of: fragment) { whole[40 + place * 8 + 2] = 0 }
      #expect(!Self.isAccepted(whole), "\(chain)")
    }
    var packet = Self.packet(message, extensions: [routing])
    packet[43] = 1
    #expect(!Self.isAccepted(packet), "the destination is not the last one")
    let many = [UInt8](repeating: options, count: IPv6Header.extensionLimit + 1)
    #expect(!Self.isAccepted(Self.packet(message, extensions: many)))
    #expect(Self.isAccepted(Self.packet(message, extensions: Array(many.dropLast()))))
  }

  /// What comes again takes no place of its own, and the first counts: an option is never appended.
  @Test func repeatedOptions() {
    let again = (2..<30).flatMap { [1, 1, 2, 0, 0, 0, 0, $0] as [UInt8] }
    let packet = Self.packet(Self.message(135) + again)
    let memory = GuardedMemory(512)
    let view = NeighborDiscoveryMessage(memory.view(packet))
    #expect(view?.linkLayerAddress == Self.address)
  }

  @Test func addressesOfAnotherLengthAreNone() {
    var message = Self.message(135, option: nil)
    message += [1, 2] + [UInt8](repeating: 7, count: 14)
    let memory = GuardedMemory(256)
    guard let view = NeighborDiscoveryMessage(memory.view(Self.packet(message))) else {
      Issue.record("refused")
      return
    }
    #expect(view.linkLayerAddress == nil)
  }
}
