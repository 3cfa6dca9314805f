import OVXDatapath
import OVXSimulation
import Testing

@testable import OVXControl

@Suite struct FrameDescriptionTests {
  private func summary(_ text: String) throws -> String {
    let frame = try TracedFrame(text)
    return FrameSummary(frame: frame.bytes, length: frame.bytes.count).text
  }

  private func complaint(_ text: String) -> String {
    do throws(ControlError) {
      Issue.record("\(text) was understood: \(try TracedFrame(text))")
      return ""
    } catch {
      return error.message
    }
  }

  // MARK: What is understood

  @Test(arguments: [
    (
      "arp,src=02:00:00:00:00:01,ip_src=10.0.0.1,ip_dst=10.0.0.2",
      "02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff, ARP who-has 10.0.0.2 tell 10.0.0.1, 42 bytes"
    ),
    (
      "arp dl_src=02:00:00:00:00:01 dl_dst=02:00:00:00:00:02 arp_op=reply arp_spa=10.0.0.1",
      "02:00:00:00:00:01 > 02:00:00:00:00:02, ARP 10.0.0.1 is-at 02:00:00:00:00:01, 42 bytes"
    ),
    (
      "tcp,eth_src=02:00:00:00:00:01,dst=02:00:00:00:00:02,nw_src=10.0.0.1,nw_dst=10.0.0.2,tp_src=7,tp_dst=80,"
        + "flags=syn+ack,dl_vlan=100,pcp=5,size=1000",
      "02:00:00:00:00:01 > 02:00:00:00:00:02, vlan 100 pcp 5, 10.0.0.1.7 > 10.0.0.2.80: TCP [S.] seq 0 ack 0 "
        + "win 65535 payload 942, 1000 bytes"
    ),
    (
      "udp,src=02:00:00:00:00:01,dst=02:00:00:00:00:02,ip_src=fd00::1,ip_dst=fd00::2,vlan=7,vlan=8",
      "02:00:00:00:00:01 > 02:00:00:00:00:02, vlan 7, vlan 8, fd00::1.0 > fd00::2.0: UDP payload 0, 70 bytes"
    ),
    (
      "icmp6,src=02:00:00:00:00:01,nd_target=fd00::12:3456",
      "02:00:00:00:00:01 > 33:33:ff:12:34:56, :: > ff02::1:ff12:3456: ICMPv6 neighbor solicitation, who has "
        + "fd00::12:3456, 86 bytes"
    ),
    (
      "src=02:00:00:00:00:01,dst=02:00:00:00:00:02,type=0x88b5,size=60",
      "02:00:00:00:00:01 > 02:00:00:00:00:02, type 0x88b5, 60 bytes"
    ),
    (
      "icmp,src=02:00:00:00:00:01,dst=02:00:00:00:00:02",
      "02:00:00:00:00:01 > 02:00:00:00:00:02, 0.0.0.0 > 0.0.0.0: ICMP echo request, 42 bytes"
    ),
    (
      "0200 0000 0002 0200 0000 0001 88b5",
      "02:00:00:00:00:01 > 02:00:00:00:00:02, type 0x88b5, 14 bytes"
    ),
    (
      "02:00:00:00:00:02:02:00:00:00:00:01:88:b5",
      "02:00:00:00:00:01 > 02:00:00:00:00:02, type 0x88b5, 14 bytes"
    ),
  ])
  func aDescriptionBecomesAFrame(_ text: String, _ expected: String) throws {
    #expect(try summary(text) == expected)
  }

  @Test(arguments: [
    "tcp,ip_src=10.0.0.1,ip_dst=10.0.0.2,size=333", "udp,ip_src=10.0.0.1,ip_dst=10.0.0.2,size=801",
    "tcp6,ip_src=fd00::1,ip_dst=fd00::2,size=334", "udp6,size=100",
  ])
  func checksumsAreRight(_ text: String) throws {
    let frame = try TracedFrame("\(text),src=02:00:00:00:00:01,dst=02:00:00:00:00:02,vlan=3").bytes
    // The one who would notice first is the code that verifies what comes out of tunnels: 65,535 of
    // 65,536 wrong checksums would make this frame, longer than the MTU, one that cannot be cut.
    let isIPv6 = text.contains("6")
    let isTCP = text.hasPrefix("tcp")
    let start = 18 + (isIPv6 ? 40 : 20)
    var sum = InternetSum()
    let addresses = isIPv6 ? frame[26..<58] : frame[30..<38]
    for word in [Array(addresses), Array(frame[start...])] {
      for index in stride(from: 0, to: word.count, by: 2) {
        sum.add(UInt64(word[index]) << 8 | UInt64(index + 1 < word.count ? word[index + 1] : 0))
      }
    }
    sum.add(UInt64(frame.count - start) + (isTCP ? 6 : 17))
    #expect(sum.folded == 0xFFFF)
  }

  @Test func aSuperframeIsOneThatTheSwitchCanCut() throws {
    let text = "tcp,src=02:00:00:00:00:01,dst=02:00:00:00:00:02,size=6054,segment=1000"
    let frame = try TracedFrame(text)
    let offload = try #require(Offload(segmenting: frame.bytes, into: frame.segmentSize ?? 0))
    let superframe = unsafe frame.bytes.withUnsafeBytes { bytes in
      unsafe bytes.baseAddress.flatMap {
        unsafe Superframe($0, count: bytes.count, offload: offload)
      }
    }
    #expect(superframe.map { $0.segmentCount(segmentSize: $0.segmentSize) } == 6)
  }

  @Test func aTunnelsFrameSaysWhereItComesFrom() throws {
    let frame = try TracedFrame(
      "arp,src=02:00:00:00:00:01,remote=192.168.5.3,vni=7")
    #expect(frame.tunnelSource == IPAddress("192.168.5.3"))
    #expect(frame.vni == VNI(rawValue: 7))
    let other = try TracedFrame(
      "tun_src=fd05::3,hex=020000000002020000000001 88b5".filter { $0 != " " })
    #expect(other.tunnelSource == IPAddress("fd05::3"))
    #expect(other.bytes.count == 14)
  }

  @Test func itTravelsAsJSON() throws {
    let request = Request(commands: [
      .trace(
        bridge: "br0", port: "p",
        frame: TracedFrame(
          bytes: [0, 1, 0xFF], segmentSize: 5, tunnelSource: IPAddress("::1"),
          vni: VNI(rawValue: 3)))
    ])
    var decoder = MessageDecoder<Request>()
    decoder.append(try request.messageBytes())
    #expect(try decoder.next() == request)
  }

  // MARK: What is refused

  @Test(arguments: [
    ("", ["empty", "arp"]),
    ("frobnicate", ["frobnicate", "arp", "tcp6"]),
    ("arp,colour=red", ["colour", "src", "tun_src", "hex"]),
    ("tcp,udp", ["tcp", "udp"]),
    ("arp,src=1", ["src=1", "02:00:00:00:00:01"]),
    ("tcp,dst=02:00:00:00:00:01", ["src="]),
    ("tcp,src=02:00:00:00:00:01", ["dst="]),
    ("src=02:00:00:00:00:01,dst=02:00:00:00:00:02", ["protocol", "type="]),
    ("tcp,src=02:00:00:00:00:01,src=02:00:00:00:00:01", ["src", "twice"]),
    ("tcp,src=02:00:00:00:00:01,arp_op=1", ["tcp", "arp_op", "arp"]),
    ("tcp,src=02:00:00:00:00:01,dst=02:00:00:00:00:02,size=20", ["20", "54"]),
    ("tcp,vlan=4096", ["vlan=4096", "4095"]),
    ("tcp,vlan=1,vlan=2,vlan=3,vlan=4", ["vlan=4", "three"]),
    ("tcp,ip_src=10.0.0.1,ip_dst=fd00::1,src=02:00:00:00:00:01", ["10.0.0.1", "family"]),
    ("udp,sport=65536", ["sport=65536", "65535"]),
    ("arp,tun_id=16777216", ["16777216", "16777215"]),
    ("abc", ["3", "two"]),
    ("hex=0011,vlan=1", ["hex=", "vlan"]),
    ("icmp6,nd_target=10.0.0.1,src=02:00:00:00:00:01", ["nd_target", "IPv6"]),
  ])
  func mistakesAreNamed(_ text: String, _ words: [String]) {
    let message = complaint(text)
    for word in words { #expect(message.contains(word), "\(text): \(message)") }
  }

  @Test func noTextTrapsIt() {
    var random = SeededRandom()
    let seed = random
    let words = [
      "arp", "tcp", "udp6", "icmp6", "src=02:00:00:00:00:01", "dst=02:00:00:00:00:02", "size=",
      "size=65561",
      "size=14", "segment=1", "vlan=1", "ip_src=10.0.0.1", "ip_src=::", "nd_target=::1", "=",
      "hex=", "hex=00",
      "type=0", "flags=+", "tun_src=1.2.3.4", "proto=0", "icmp_type=136", "=1", "0x",
      "arp_op=reply", ",",
    ]
    for _ in 0..<3000 {
      let count = Int(random.next() % 7)
      let text = (0..<count).map { _ in words[Int(random.next() % UInt64(words.count))] }
        .joined(separator: ",")
      if let frame = try? TracedFrame(text) {
        #expect(frame.bytes.count <= TracedFrame.byteLimit, "\(text) \(seed)")
        #expect(!FrameSummary(frame: frame.bytes, length: frame.bytes.count).text.isEmpty)
      }
    }
  }

  @Test func noBytesTrapTheSummary() throws {
    var random = SeededRandom()
    let seed = random
    let texts = [
      "arp,src=02:00:00:00:00:01",
      "tcp,vlan=1,vlan=2,src=02:00:00:00:00:01,dst=02:00:00:00:00:02,size=80",
      "udp6,dport=4789,src=02:00:00:00:00:01,dst=02:00:00:00:00:02,size=120",
      "icmp6,src=02:00:00:00:00:01,nd_target=fd00::1",
    ]
    for _ in 0..<5000 {
      var bytes = try TracedFrame(texts[Int(random.next() % 4)]).bytes
      for _ in 0..<(random.next() % 4) {
        bytes[Int(random.next() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: random.next())
      }
      bytes = Array(bytes.prefix(Int(random.next() % UInt64(bytes.count + 1))))
      #expect(!FrameSummary(frame: bytes, length: 2000).text.isEmpty, "\(seed)")
      #expect(!FrameSummary(packet: bytes, length: 2000).text.isEmpty, "\(seed)")
    }
  }
}
