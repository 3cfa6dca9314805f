private import CCapture

/// The time of day here, to the microsecond, as each line of `capture` and `monitor` begins.
///
/// `nanoseconds` are those since 1970.
func timeOfDay(_ nanoseconds: UInt64) -> String {
  var text = [CChar](repeating: 0, count: 16)
  unsafe ovx_format_time(nanoseconds, &text)
  return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
