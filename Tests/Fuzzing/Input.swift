/// The bytes that libFuzzer has chosen, taken from the front.
struct Input {
  private let bytes: [UInt8]
  private var position = 0

  init(_ start: UnsafePointer<UInt8>?, _ count: Int) {
    bytes = unsafe Array(UnsafeBufferPointer(start: start, count: count))
  }

  private var restCount: Int { bytes.count - position }

  var isEmpty: Bool { restCount == 0 }

  /// The next bytes, as many as there are.
  mutating func take(_ count: Int) -> [UInt8] {
    let end = position + min(max(count, 0), restCount)
    defer { position = end }
    return Array(bytes[position..<end])
  }

  /// A little-endian number of so many bytes; what is missing is zero.
  mutating func takeNumber(_ count: Int) -> Int {
    var number = 0
    for place in 0..<min(count, restCount) { number |= Int(bytes[position + place]) << (8 * place) }
    position += min(count, restCount)
    return number
  }

  mutating func takeRest() -> [UInt8] { take(restCount) }
}

/// Ends the run with what must never be.
func finding(_ sentence: String) -> Never { fatalError(sentence) }
