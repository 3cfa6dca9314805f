private import OVXDatapath

/// The `_uuid` of a record, which scripts for Open vSwitch refer to it by.
///
/// It follows from the record's table and name, so it is the same at every look, on every host and
/// after a restart: a UUID of version 8 (RFC 9562, section 5.8), whose other bits are two FNV-1a
/// hashes.
enum RecordID {
  /// The text of 36 characters.
  static func text(_ table: Schema.TableName, _ name: String) -> String {
    let bytes = Array("\(table.rawValue)/\(name)".utf8)
    var high = hash(bytes, from: 0xCBF2_9CE4_8422_2325)
    var low = hash(bytes, from: 0x6F76_782D_6964_3031)
    // Version 8, and the variant of the RFC.
    high = high & ~0xF000 | 0x8000
    low = low & ~(3 << 62) | 1 << 63
    let digits = Array(hex(high) + hex(low))
    let groups = [0..<8, 8..<12, 12..<16, 16..<20, 20..<32]
    return groups.map { String(digits[$0]) }.joined(separator: "-")
  }

  /// Whether a text has the form of one.
  static func isText(_ text: String) -> Bool {
    let bytes = Array(text.utf8)
    guard bytes.count == 36, bytes[14] == UInt8(ascii: "8") else { return false }
    return bytes.indices.allSatisfy {
      [8, 13, 18, 23].contains($0) ? bytes[$0] == UInt8(ascii: "-") : isHexDigit(bytes[$0])
    }
  }

  private static func isHexDigit(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"),
      UInt8(ascii: "A")...UInt8(ascii: "F"):
      true
    default: false
    }
  }

  private static func hash(_ bytes: [UInt8], from basis: UInt64) -> UInt64 {
    var hash = bytes.fnv1a(from: basis)
    // FNV's upper bits hardly change with the last byte.
    hash ^= hash >> 32
    hash = hash &* 0x9E37_79B9_7F4A_7C15
    return hash ^ hash >> 29
  }

  private static func hex(_ number: UInt64) -> String {
    let text = String(number, radix: 16)
    return String(repeating: "0", count: 16 - text.utf8.count) + text
  }
}
