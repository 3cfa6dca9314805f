import OVXDatapath
import OVXSimulation
import Testing

struct FrameGeneratorTests {
  @Test("The same seed gives the same frames, another one others")
  func determinism() {
    func frames(_ seed: UInt64) -> [[UInt8]] {
      var generator = FrameGenerator(seed: seed, vlans: [])
      return (0..<50).map { _ in generator.input().frame.bytes }
    }
    #expect(frames(7) == frames(7))
    #expect(frames(7) != frames(8))
  }

  @Test("A packet's checksums are right, and a partial one is right once completed")
  func checksums() throws {
    var generator = FrameGenerator(seed: 1, vlans: [])
    for _ in 0..<300 {
      let plan = generator.packet(tags: generator.tags())
      let anatomy = try #require(FrameAnatomy(plan.frame))
      #expect(anatomy.hasRightChecksum(in: plan.frame) == true)
      let completed = try #require(plan.partialFrame.wireFrames)
      #expect(completed.map(canonical) == [canonical(plan.frame)])
    }
  }

  @Test("The segments of a superframe carry its payload once, in order, with right checksums")
  func superframes() throws {
    var generator = FrameGenerator(seed: 2, vlans: [])
    for _ in 0..<100 {
      let superframe = generator.superframe(tags: generator.tags())
      let whole = try #require(FrameAnatomy(superframe.bytes))
      let segments = try #require(superframe.wireFrames)
      var payload: [UInt8] = []
      for segment in segments {
        let anatomy = try #require(FrameAnatomy(segment))
        #expect(anatomy.hasRightChecksum(in: segment) == true)
        payload += try #require(anatomy.payload(in: segment))
      }
      #expect(payload == Array(try #require(whole.payload(in: superframe.bytes))))
    }
  }

  @Test("A golden frame of RFC 1071 arithmetic: the sum of the RFC's own example")
  func goldenSum() {
    #expect(onesComplementSum([0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7]) == 0xDDF2)
  }
}

/// The frame with its TCP checksum 0xFFFF written as the 0 that it equals.
private func canonical(_ frame: [UInt8]) -> [UInt8] {
  var frame = frame
  FrameAnatomy(frame)?.fillChecksums(in: &frame)
  return frame
}
