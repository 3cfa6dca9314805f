// The bytes of handover messages: numbers in network byte order, and texts and lists with their
// length in front.

/// Puts a message together, up to a limit.
struct HandoverWriter {
  private(set) var bytes: [UInt8]

  init(_ kind: UInt8) { bytes = [kind] }

  mutating func put<Number: FixedWidthInteger & UnsignedInteger>(_ number: Number) {
    for shift in stride(from: Number.bitWidth - 8, through: 0, by: -8) {
      bytes.append(UInt8(truncatingIfNeeded: number >> Number(shift)))
    }
  }

  /// Bytes with their number in front; what is beyond 65,535 of them is left out.
  mutating func put(_ octets: some Collection<UInt8>) {
    let octets = octets.prefix(Int(UInt16.max))
    put(UInt16(octets.count))
    bytes += octets
  }

  mutating func put(_ text: String) { put(text.utf8) }

  mutating func put(_ flag: Bool) { bytes.append(flag ? 1 : 0) }
}

/// That a message is not what it ought to be.
struct MalformedHandover: Error {}

/// Takes a message apart; every length is checked against what there is.
struct HandoverReader {
  private var rest: ArraySlice<UInt8>

  init(_ bytes: [UInt8]) { rest = bytes[...] }

  /// Whether everything has been read.
  var isAtEnd: Bool { rest.isEmpty }

  mutating func number<Number: FixedWidthInteger & UnsignedInteger>(
    _: Number.Type = Number.self
  ) throws(MalformedHandover) -> Number {
    try octets(Number.bitWidth / 8).reduce(0) { ($0 << 8) | Number($1) }
  }

  mutating func octets(_ count: Int) throws(MalformedHandover) -> ArraySlice<UInt8> {
    guard count <= rest.count else { throw MalformedHandover() }
    defer { rest = rest.dropFirst(count) }
    return rest.prefix(count)
  }

  /// Bytes with their number in front.
  mutating func octets() throws(MalformedHandover) -> ArraySlice<UInt8> {
    try octets(Int(number(UInt16.self)))
  }

  /// A text, which has to be UTF-8.
  mutating func text() throws(MalformedHandover) -> String {
    guard let text = String(validating: try octets(), as: UTF8.self) else {
      throw MalformedHandover()
    }
    return text
  }

  mutating func flag() throws(MalformedHandover) -> Bool {
    switch try number(UInt8.self) {
    case 0: false
    case 1: true
    default: throw MalformedHandover()
    }
  }
}
