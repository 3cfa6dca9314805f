import OVXDatapath
import Testing

@testable import OVXHost

@Suite struct MTUTests {
  @Test(arguments: [
    (1500, false, 1450), (1500, true, 1430), (9000, false, 8950), (9000, true, 8930),
    (49, false, 0), (70, true, 0), (1550, false, 1500),
  ])
  func innerMTU(_ pathMTU: Int, _ isIPv6: Bool, _ expected: Int) {
    #expect(MTU.innerMTU(pathMTU: pathMTU, isIPv6: isIPv6) == expected)
  }

  /// A full superframe of TCP becomes one send, whichever options its segments have.
  @Test(arguments: [576, 1000, 1280, 1430, 1450, 1500, 4000, 8950, 9000])
  func superframeFitsOneSend(_ mtu: Int) {
    let size = MTU.gsoMaxSize(mtu: mtu)
    let fitting = min(64, Transmission.trainByteLimit / (8 + 14 + mtu))
    // The kernel keeps 321 bytes for headers (MAX_TCP_HEADER + 1), and cuts the rest into whole
    // segments.
    for headers in [40, 52, 60, 72] {
      let segments = (size - 321) / (mtu - headers)
      // Not more than fit, and not much less.
      #expect((fitting - max(1, fitting / 20)...fitting).contains(segments), "headers \(headers)")
    }
  }

  @Test func gsoMaxSizeIsBounded() {
    for mtu in [0, 1, 68, 65_521, 1_000_000] {
      #expect((1...65_536).contains(MTU.gsoMaxSize(mtu: mtu)), "MTU \(mtu)")
    }
    #expect(MTU.gsoMaxSize(mtu: 1450) == 62_095)
  }

  @Test(arguments: [
    (0, 16), (1, 16), (512, 16), (513, 8), (1024, 8), (1025, 4), (4096, 2), (4097, 1),
    (16_384, 1), (16_385, 1),
  ])
  func socketsPerPeer(_ peers: Int, _ expected: Int) {
    #expect(Underlay.socketsPerPeer(peers: peers, budget: 16_384) == expected)
  }

  @Test func socketsPerPeerFitTheBudget() {
    for peers in [1, 7, 100, 512] {
      let count = Underlay.socketsPerPeer(peers: peers, budget: 512)
      #expect(count * peers <= 512 && (count == 16 || 2 * count * peers > 512))
    }
    #expect(Underlay.socketsPerPeer(peers: 513, budget: 512) == 1)
  }
}
