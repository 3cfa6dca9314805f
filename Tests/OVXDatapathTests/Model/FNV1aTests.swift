import OVXDatapath
import Testing

@Suite struct FNV1aTests {
  /// The algorithm's own vectors.
  @Test(arguments: [
    ("", 0xCBF2_9CE4_8422_2325 as UInt64), ("a", 0xAF63_DC4C_8601_EC8C),
    ("foobar", 0x8594_4171_F739_67E8),
  ])
  func vectors(_ text: String, _ hash: UInt64) { #expect(text.utf8.fnv1a() == hash) }
}
