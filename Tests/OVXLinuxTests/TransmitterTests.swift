import CLinux
import Glibc

import Testing

@testable import OVXDatapath
@testable import OVXLinux

extension KernelTests {
  /// What becomes of trains that the kernel or the underlay does not take as they are.
  @Suite struct TransmitterTests {
    private let scene = Scene()
    private let path = PathID(rawValue: 3)

    /// A pair of sockets on loopback: a transmitter's path, and what listens at its end.
    private func pair(
      in host: Host, _ transmitter: inout Transmitter, option: Int32? = nil
    ) throws -> Descriptor {
      let home = IPAddress(127, 0, 0, 1)
      let listener = try host.namespace.perform { () throws(LinuxError) in
        try UDPSocket.listen(local: home, isIPv6: false, port: 4789)
      }.takeDescriptor()
      // Datagram by datagram, whatever they arrived as.
      _ = listener.setOption(Int32(IPPROTO_UDP), UDP_GRO, 0)
      let sender = try host.namespace.perform { () throws(LinuxError) in
        try UDPSocket.connect(local: home, remote: home, port: 4789, sourcePort: 50_000)
      }.takeDescriptor()
      if let option { _ = sender.setOption(SOL_SOCKET, option, 1) }
      try transmitter.openPath(path, descriptor: sender.release())
      return listener
    }

    /// Sends a train whose datagrams hold their number, in vectors that do not end where the datagrams do.
    ///
    /// Returns what failures came to, as frames by reason.
    private func send(
      _ count: Int, of size: Int, lastSize: Int, _ transmitter: inout Transmitter
    ) -> [DropReason: Int] {
      var bytes: [UInt8] = []
      for number in 0..<count {
        let length = number == count - 1 ? lastSize : size
        bytes += Array(repeating: UInt8(truncatingIfNeeded: number), count: length)
      }
      let cut = bytes.count / 3
      unsafe bytes.withUnsafeBytes { memory in
        guard let base = memory.baseAddress else { return }
        let vectors = unsafe [
          iovec(iov_base: UnsafeMutableRawPointer(mutating: base), iov_len: cut),
          iovec(
            iov_base: UnsafeMutableRawPointer(mutating: base + cut), iov_len: memory.count - cut),
        ]
        let train = Transmission(
          offload: .none, kind: .datagrams, port: .tunnel, path: path, firstVector: 0,
          vectorCount: 2, segmentSize: UInt16(size), frameCount: UInt16(count),
          byteCount: UInt32(memory.count))
        unsafe withUnsafePointer(to: train) { train in
          unsafe vectors.withUnsafeBytes { vectors in
            guard let vectors = unsafe vectors.bindMemory(to: Vector.self).baseAddress else {
              return
            }
            unsafe transmitter.send(UnsafeBufferPointer(start: train, count: 1), vectors)
          }
        }
      }
      var failures: [DropReason: Int] = [:]
      while let completion = transmitter.ring.nextCompletion() {
        guard let failure = transmitter.failure(of: completion) else { continue }
        #expect(failure.port == .tunnel)
        failures[failure.reason, default: 0] += failure.frames
      }
      return failures
    }

    /// Expects a train as `send` makes it to have arrived, in order and whole.
    private func expectTrain(
      _ count: Int, of size: Int, lastSize: Int, on listener: borrowing Descriptor
    ) {
      for number in 0..<count {
        var bytes = Array(repeating: UInt8(0), count: 2048)
        let received = unsafe recv(
          listener.rawValue, &bytes, bytes.count, Int32(MSG_DONTWAIT))
        guard received >= 0 else {
          Issue.record("datagram \(number) of \(count) did not arrive")
          return
        }
        let length = number == count - 1 ? lastSize : size
        #expect(received == length)
        #expect(
          bytes.prefix(length).allSatisfy { $0 == UInt8(truncatingIfNeeded: number) })
      }
      var byte: UInt8 = 0
      #expect(unsafe recv(listener.rawValue, &byte, 1, Int32(MSG_DONTWAIT)) < 0)
    }

    /// One that trains are offered to in one piece up to a limit, be it more than the kernel takes.
    private func makeTransmitter(segmentLimit: UInt8 = 128) throws -> Transmitter {
      Transmitter(ring: try Self.ring(), events: try EventQueue(), segmentLimit: segmentLimit)
    }

    /// A ring whose first file's place is taken, as the worker's is.
    private static func ring() throws -> Ring {
      var ring = try Ring(fileLimit: 8)
      _ = try ring.register(0, "nothing")
      return ring
    }

    @Test func `a train leaves in one send`() throws {
      let host = try scene.host("a")
      var transmitter = try makeTransmitter()
      let listener = try pair(in: host, &transmitter)
      #expect(send(64, of: 100, lastSize: 7, &transmitter).isEmpty)
      expectTrain(64, of: 100, lastSize: 7, on: listener)
    }

    @Test func `what a kernel refuses as too long leaves in several sends from then on`() throws {
      let host = try scene.host("a")
      var transmitter = try makeTransmitter(segmentLimit: 255)
      let listener = try pair(in: host, &transmitter)
      // One more than any kernel takes; it shows what one before 6.9 does to more than 64.
      #expect(send(129, of: 50, lastSize: 50, &transmitter) == [.underlayRefused: 129])
      for count in [129, 128, 65, 64, 2, 1] {
        #expect(send(count, of: 50, lastSize: 9, &transmitter).isEmpty)
        expectTrain(count, of: 50, lastSize: 9, on: listener)
      }
    }

    @Test func `where nothing is cut, datagrams leave one by one`() throws {
      let host = try scene.host("a")
      var transmitter = try makeTransmitter()
      // Linux cuts nothing for a socket that sends without checksums.
      let listener = try pair(in: host, &transmitter, option: SO_NO_CHECK)
      #expect(send(40, of: 50, lastSize: 50, &transmitter) == [.underlayRefused: 40])
      for count in [200, 40, 2] {
        #expect(send(count, of: 50, lastSize: 9, &transmitter).isEmpty)
        expectTrain(count, of: 50, lastSize: 9, on: listener)
      }
    }

    @Test func `what has nowhere to go fails`() throws {
      var transmitter = try makeTransmitter()
      #expect(send(3, of: 50, lastSize: 50, &transmitter) == [.underlayUnreachable: 3])
    }
  }
}
