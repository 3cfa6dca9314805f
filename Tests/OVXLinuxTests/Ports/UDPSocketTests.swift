import Glibc
import OVXDatapath
import OVXLinux
import SystemPackage
import Testing

extension IPAddress {
  init(_ a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8) {
    self.init(v4: UInt32(a) << 24 | UInt32(b) << 16 | UInt32(c) << 8 | UInt32(d))
  }
}

extension KernelTests {
  @Suite struct UDPSocketTests {
    /// What a failing call says.
    private func refusal(
      in host: Host, _ body: @Sendable () throws(LinuxError) -> Void
    ) throws -> LinuxError {
      var refusal: LinuxError?
      do throws(LinuxError) {
        try host.namespace.perform(body)
      } catch {
        refusal = error
      }
      return try #require(refusal)
    }

    @Test func `says what has the port, a kernel vxlan device or a socket`() throws {
      let scene = Scene()
      let host = try scene.host("a")
      try host.must("ip link add vx0 type vxlan id 5 dstport 4789 && ip link set vx0 up")
      let device = try refusal(in: host) { () throws(LinuxError) in
        _ = try UDPSocket.listen(local: nil, isIPv6: false, port: 4789)
      }
      #expect(device.errno == .addressInUse)
      for part in ["4789", "ip -d link show type vxlan", "ss -ulpn", "dst_port="] {
        #expect(device.description.contains(part), "\(device)")
      }
      try host.must("ip link del vx0")
      let socket = try host.namespace.perform { () throws(LinuxError) in
        try UDPSocket.listen(local: nil, isIPv6: false, port: 4789)
      }
      #expect(socket.pathMTU == 0)
      let second = try refusal(in: host) { () throws(LinuxError) in
        _ = try UDPSocket.listen(local: IPAddress(127, 0, 0, 1), isIPv6: false, port: 4789)
      }
      #expect(second.errno == .addressInUse)
      #expect(second.description.contains("127.0.0.1"))
      // The other family is another port space.
      try host.namespace.perform { () throws(LinuxError) in
        _ = try UDPSocket.listen(local: nil, isIPv6: true, port: 4789)
      }
    }

    @Test func `an address that no interface has is named`() throws {
      let scene = Scene()
      let host = try scene.host("a")
      let error = try refusal(in: host) { () throws(LinuxError) in
        _ = try UDPSocket.listen(local: IPAddress(192, 0, 2, 7), isIPv6: false, port: 4789)
      }
      #expect(error.errno == .addressNotAvailable)
      #expect(error.description.contains("192.0.2.7"))
      #expect(error.description.contains("ip address"))
    }

    @Test func `a remote without a route is named`() throws {
      let scene = Scene()
      let host = try scene.host("a")
      let error = try refusal(in: host) { () throws(LinuxError) in
        _ = try UDPSocket.connect(
          local: nil, remote: IPAddress(192, 0, 2, 7), port: 4789, sourcePort: 50000)
      }
      #expect(error.errno == .networkUnreachable)
      #expect(error.description.contains("192.0.2.7"))
    }

    @Test(arguments: [false, true])
    func `a sender knows its path's MTU, and remotes share a source port`(_ isIPv6: Bool) throws {
      let scene = Scene()
      let host = try scene.host("a")
      try host.must(
        """
        ip link add u0 mtu 1400 type veth peer name u1 && ip link set u0 up && ip link set u1 up \
        && ip addr add 192.0.2.1/24 dev u0 && ip addr add 2001:db8::1/64 dev u0 nodad
        """)
      func connect(_ last: UInt8, _ local: IPAddress?) throws -> UDPSocket {
        let remote =
          isIPv6
          ? IPAddress(v6High: 0x2001_0db8_0000_0000, low: UInt64(last))
          : IPAddress(192, 0, 2, last)
        return try host.namespace.perform { () throws(LinuxError) in
          try UDPSocket.connect(local: local, remote: remote, port: 4789, sourcePort: 50000)
        }
      }
      let own = isIPv6 ? IPAddress(v6High: 0x2001_0db8_0000_0000, low: 1) : IPAddress(192, 0, 2, 1)
      let first = try connect(2, nil)
      let second = try connect(3, nil)
      let third = try connect(4, own)
      for mtu in [first.pathMTU, second.pathMTU, third.pathMTU] { #expect(mtu == 1400) }
    }

    @Test func `this kernel cuts datagrams as it should`() throws {
      let scene = Scene()
      let host = try scene.host("a")
      try host.must("ip link set lo up")
      #expect(try host.namespace.perform { UDPSegmentation.probe() } == .works)
      // What cannot be tried is not held against it.
      try host.must("ip link set lo down")
      #expect(try host.namespace.perform { UDPSegmentation.probe() } == .works)
    }

    @Test func `a kernel that spoils a train is found out`() {
      let train = (0..<3 * 1424).map { UInt8(truncatingIfNeeded: $0) }
      var parts = (0..<3).map { [UInt8](train[$0 * 1424..<($0 + 1) * 1424]) }
      #expect(UDPSegmentation.verdict(sent: train, received: parts) == .works)
      #expect(UDPSegmentation.verdict(sent: train, received: []) == .works)
      parts[2][700] ^= 1
      #expect(UDPSegmentation.verdict(sent: train, received: parts) == .corrupts)
      parts[2] = [UInt8](train[2 * 1424..<3 * 1424 - 1])
      #expect(UDPSegmentation.verdict(sent: train, received: parts) == .corrupts)
      #expect(UDPSegmentation.verdict(sent: train, received: [train]) == .corrupts)
    }
  }
}
