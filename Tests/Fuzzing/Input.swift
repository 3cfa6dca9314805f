/// The bytes that libFuzzer has chosen, taken from the front.
struct Input {
  private var rest: ArraySlice<UInt8>

  init(_ start: UnsafePointer<UInt8>?, _ count: Int) {
    rest = unsafe Array(UnsafeBufferPointer(start: start, count: count))[...]
  }

  var isEmpty: Bool { rest.isEmpty }

  /// The next bytes, as many as there are.
  mutating func take(_ count: Int) -> [UInt8] {
    defer { rest = rest.dropFirst(count) }
    return Array(rest.prefix(count))
  }

  /// A little-endian number of so many bytes; what is missing is zero.
  mutating func takeNumber(_ count: Int) -> Int {
    take(count).reversed().reduce(0) { $0 << 8 | Int($1) }
  }

  mutating func takeRest() -> [UInt8] { take(rest.count) }
}

/// Ends the run with what must never be.
func finding(_ sentence: String) -> Never { fatalError(sentence) }
