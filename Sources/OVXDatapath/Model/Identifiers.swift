private import Glibc

/// A VXLAN network identifier: 24 bits, the name of a tenant's segment on the wire (RFC 7348,
/// section 5).
package struct VNI: RawRepresentable, Hashable, Comparable, BitwiseCopyable, Sendable {
  package let rawValue: UInt32

  /// Makes an identifier, or `nil` where the value needs more than 24 bits.
  package init?(rawValue: UInt32) {
    guard rawValue <= Self.max else { return nil }
    self.rawValue = rawValue
  }

  /// Makes an identifier from a value known to fit; the bits above the 24th are cut off.
  init(truncating value: UInt32) {
    rawValue = value & Self.max
  }

  package static let zero = VNI(truncating: 0)

  /// The largest identifier's value, 16,777,215.
  package static let max: UInt32 = 0xFF_FFFF

  package static func < (left: VNI, right: VNI) -> Bool { left.rawValue < right.rawValue }
}

/// A VLAN identifier, 0...4095 (IEEE 802.1Q, section 9.6).
///
/// 0 stands for "untagged", the segment of frames without a tag.
package struct VLANID: RawRepresentable, Hashable, Comparable, BitwiseCopyable, Sendable {
  package let rawValue: UInt16

  /// Makes an identifier, or `nil` where the value is above 4095.
  package init?(rawValue: UInt16) {
    guard rawValue <= 4095 else { return nil }
    self.rawValue = rawValue
  }

  /// Makes an identifier from the low 12 bits of a tag control field.
  init(tagControl: UInt16) {
    rawValue = tagControl & 0x0FFF
  }

  /// The segment of frames that carry no tag.
  package static let untagged = VLANID(tagControl: 0)

  package static func < (left: VLANID, right: VLANID) -> Bool { left.rawValue < right.rawValue }
}

/// A 48-bit Ethernet address, the first octet on the wire in the most significant place of the 48.
///
/// Held in one integer so that comparing, hashing and packing into a table key are single
/// instructions.
package struct MACAddress: RawRepresentable, Hashable, Comparable, BitwiseCopyable, Sendable {
  package let rawValue: UInt64

  /// Makes an address, or `nil` where the value needs more than 48 bits.
  package init?(rawValue: UInt64) {
    guard rawValue >> 48 == 0 else { return nil }
    self.rawValue = rawValue
  }

  /// Makes an address from the low 48 bits.
  package init(truncating value: UInt64) {
    rawValue = value & 0xFFFF_FFFF_FFFF
  }

  package static let broadcast = MACAddress(truncating: .max)

  /// Whether the address names a group of stations (multicast or broadcast) rather than one.
  package var isGroup: Bool { rawValue & (1 << 40) != 0 }

  /// Whether the address is one of 01:80:C2:00:00:00...0F, which no bridge forwards (IEEE 802.1Q,
  /// table 8-1).
  package var isLinkLocalReserved: Bool { rawValue & ~0xF == 0x0180_C200_0000 }

  package static func < (left: MACAddress, right: MACAddress) -> Bool {
    left.rawValue < right.rawValue
  }
}

extension MACAddress: CustomStringConvertible, LosslessStringConvertible {
  /// The address as six colon-separated pairs of lower-case hexadecimal digits.
  package var description: String {
    var text = ""
    for shift in stride(from: 40, through: 0, by: -8) {
      let octet = UInt8(truncatingIfNeeded: rawValue >> UInt64(shift))
      if !text.isEmpty { text += ":" }
      if octet < 16 { text += "0" }
      text += String(octet, radix: 16)
    }
    return text
  }

  /// Reads six pairs of hexadecimal digits separated by colons, of any letter case.
  package init?(_ text: String) {
    let octets = text.split(separator: ":", omittingEmptySubsequences: false)
    guard octets.count == 6 else { return nil }
    var value: UInt64 = 0
    for octet in octets {
      guard octet.utf8.count == 2, octet.first?.isHexDigit == true,
        let bits = UInt8(octet, radix: 16)
      else { return nil }
      value = value << 8 | UInt64(bits)
    }
    rawValue = value
  }
}

extension VNI: CustomStringConvertible {
  package var description: String { String(rawValue) }
}

extension VLANID: CustomStringConvertible {
  package var description: String { String(rawValue) }
}

/// The number of a port, dense from 0; stable for as long as the port is configured.
package struct PortID: RawRepresentable, Hashable, Comparable, BitwiseCopyable, Sendable {
  package let rawValue: UInt16
  package init(rawValue: UInt16) { self.rawValue = rawValue }

  /// The bound of the port table: numbers are below it, and a reading of it means "no port".
  package static let limit = 4096
  package static let none = PortID(rawValue: .max)

  package static func < (left: PortID, right: PortID) -> Bool { left.rawValue < right.rawValue }
}

/// The number of a bridge, dense from 0; stable for as long as the bridge is configured.
package struct BridgeID: RawRepresentable, Hashable, BitwiseCopyable, Sendable {
  package let rawValue: UInt16
  package init(rawValue: UInt16) { self.rawValue = rawValue }

  package static let limit = 1024
}

/// The number of one remote VTEP of one tunnel port, dense from 0 over all tunnels; 0 means "no
/// peer".
package struct RemoteVTEPID: RawRepresentable, Hashable, BitwiseCopyable, Sendable {
  package let rawValue: UInt16
  package init(rawValue: UInt16) { self.rawValue = rawValue }

  package static let limit = 16384
  package static let none = RemoteVTEPID(rawValue: 0)
}

/// The number of a local receiving UDP socket: a VTEP address and port.
package struct ListenerID: RawRepresentable, Hashable, BitwiseCopyable, Sendable {
  package let rawValue: UInt16
  package init(rawValue: UInt16) { self.rawValue = rawValue }

  package static let limit = 1024
}

/// The number of a transmitting UDP socket: one (local address, source port, remote VTEP).
package struct UnderlaySocketID: RawRepresentable, Hashable, BitwiseCopyable, Sendable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }
}

/// An IPv4 or IPv6 address as integers, ready to compare and hash.
package struct IPAddress: Hashable, Comparable, BitwiseCopyable, Sendable {
  /// Whether the address is an IPv6 one; an IPv4 address has its 32 bits in the low half of `low`.
  package let isIPv6: Bool
  package let high: UInt64
  package let low: UInt64

  /// IPv4 before IPv6, and then by number.
  package static func < (one: IPAddress, other: IPAddress) -> Bool {
    if one.isIPv6 != other.isIPv6 { return other.isIPv6 }
    return (one.high, one.low) < (other.high, other.low)
  }

  package init(v4: UInt32) {
    isIPv6 = false
    high = 0
    low = UInt64(v4)
  }

  package init(v6High: UInt64, low: UInt64) {
    isIPv6 = true
    high = v6High
    self.low = low
  }

  package var isUnspecified: Bool { high == 0 && low == 0 }

  /// Whether the address names a group: 224.0.0.0/4 or ff00::/8.
  package var isMulticast: Bool {
    isIPv6 ? high >> 56 == 0xFF : low >> 28 == 0xE
  }

  /// Whether the address is an IPv6 one that is unique on its link alone, fe80::/10 (RFC 4291,
  /// section 2.5.6).
  package var isLinkLocalIPv6: Bool { isIPv6 && high >> 54 == 0xFE80 >> 6 }

  /// Whether the address is an IPv4 one in IPv6 clothes, ::ffff:0:0/96.
  package var isIPv4Mapped: Bool { isIPv6 && high == 0 && low >> 32 == 0xFFFF }
}

extension IPAddress: CustomStringConvertible, LosslessStringConvertible {
  /// Reads an IPv4 address in dotted decimal or an IPv6 one in any form of RFC 4291, as `inet_pton`
  /// does.
  package init?(_ text: String) {
    // A C string would end there, and the rest go unread.
    guard !text.utf8.contains(0) else { return nil }
    var v4 = in_addr()
    if unsafe inet_pton(AF_INET, text, &v4) == 1 {
      self.init(v4: UInt32(bigEndian: v4.s_addr))
      return
    }
    var words: [UInt64] = [0, 0]
    guard unsafe inet_pton(AF_INET6, text, &words) == 1 else { return nil }
    self.init(v6High: UInt64(bigEndian: words[0]), low: UInt64(bigEndian: words[1]))
  }

  /// The canonical text, as `inet_ntop` writes it (RFC 5952 for IPv6).
  package var description: String {
    var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
    let size = socklen_t(text.count)
    if isIPv6 {
      let words = [high.bigEndian, low.bigEndian]
      _ = unsafe inet_ntop(AF_INET6, words, &text, size)
    } else {
      var address = in_addr(s_addr: UInt32(truncatingIfNeeded: low).bigEndian)
      _ = unsafe inet_ntop(AF_INET, &address, &text, size)
    }
    let bytes = text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
    return String(decoding: bytes, as: UTF8.self)
  }
}

// MARK: - Octets

extension MACAddress {
  /// The six octets in the order of the wire.
  package var octets: [UInt8] { bigEndianOctets(of: rawValue, count: 6) }
}

extension IPAddress {
  /// The 4 or 16 octets in the order of the wire.
  package var octets: [UInt8] {
    isIPv6
      ? bigEndianOctets(of: high, count: 8) + bigEndianOctets(of: low, count: 8)
      : bigEndianOctets(of: low, count: 4)
  }

  /// Makes an address of its 4 or 16 octets in the order of the wire; `nil` for another number of
  /// them.
  package init?(octets: some Collection<UInt8>) {
    func number(_ octets: some Sequence<UInt8>) -> UInt64 {
      octets.reduce(0) { $0 << 8 | UInt64($1) }
    }
    switch octets.count {
    case 4: self.init(v4: UInt32(truncatingIfNeeded: number(octets)))
    case 16: self.init(v6High: number(octets.prefix(8)), low: number(octets.dropFirst(8)))
    default: return nil
    }
  }
}

private func bigEndianOctets(of value: UInt64, count: Int) -> [UInt8] {
  (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 &* UInt64(count &- 1 &- $0))) }
}
