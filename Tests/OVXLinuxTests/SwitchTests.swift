import Glibc
import OVXDatapath
import OVXLinux
import Testing

extension KernelTests {
  @Suite struct SwitchTests {
    @Test func `TAPs of two namespaces reach each other`() throws {
      let scene = Scene()
      let (a, b) = (try scene.host("a"), try scene.host("b"))
      let bridge = try Switch()
      try bridge.attach(a.tap("eth0", address: "10.0.0.1/24"), as: .left)
      try bridge.attach(b.tap("eth0", address: "10.0.0.2/24"), as: .right)
      bridge.apply(.bridge(devices: [.left, .right]))
      let ping = try a.ping("10.0.0.2")
      #expect(ping.received == 5, "\(ping.text)")
      let tcp = try Throughput.tcp(from: a, to: b, "10.0.0.2", seconds: 1)
      print("TAP to TAP: \(tcp)")
      #expect(tcp.gigabitsPerSecond > 0.5)
      bridge.stop()
    }
  }
}
