// Frames that the switch makes itself. There are two occasions:
//
// - A frame has come that it answers: who asks for a neighbor, and who sends what does not fit.
// - The control thread has something to say: it announces a device's addresses, or asks whether
//   somebody has one.
//
// All of them leave by the egress rules, as frames of others do.

extension Datapath {
  /// Makes the answer to a frame at hand, in its segment and with its tags, which leaves by where
  /// that came from.
  ///
  /// It lies in scratch memory until the next flush, and room is made beforehand: its delivery does
  /// not flush, and give the memory to another one.
  ///
  /// - Parameters:
  ///   - frame: What is answered.
  ///   - byteCount: The answer's length, an Ethernet header's at least.
  ///   - write: Fills so many bytes.
  /// - Returns: The answer.
  @unsafe mutating func makeAnswer(
    to frame: borrowing Frame, byteCount: Int, _ write: (UnsafeMutableRawPointer) -> Void
  ) -> Frame {
    if egress.isFull || !egress.hasScratch(byteCount) { flush() }
    let start = unsafe egress.scratchStart()
    unsafe write(start)
    egress.useScratch(byteCount)
    return unsafe Frame(answering: frame, with: start, count: byteCount)
  }

  /// Makes a frame that answers none, and hands over what is sent of it.
  ///
  /// It has memory of its own: where it goes to more ports than one flush takes, scratch memory
  /// would be given to others meanwhile.
  ///
  /// - Parameters:
  ///   - limit: The bytes that it may have.
  ///   - write: Fills in the frame from its Ethernet header on, and returns its length.
  ///   - send: What becomes of it; the memory goes behind this.
  @unsafe mutating func originate(
    upTo limit: Int, _ write: (UnsafeMutableRawPointer) -> Int,
    _ send: (inout Datapath, UnsafeMutableRawPointer, _ count: Int) -> Void
  ) {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: Frame.headroom + limit, alignment: 8)
    defer { unsafe memory.deallocate() }
    let start = unsafe memory + Frame.headroom
    let count = unsafe write(start)
    assert(count <= limit)
    unsafe send(&self, start, count)
    flush()
  }
}
