import CLinux
import Glibc

import Testing

@testable import OVXDatapath
@testable import OVXLinux

extension KernelTests {
  /// What becomes of trains that the kernel or the underlay does not take as they are.
  @Suite struct TransmitterTests {
    private let scene = Scene()
    private let path = UnderlaySocketID(rawValue: 3)

    private static let home = IPAddress(127, 0, 0, 1)
    private static let homeIPv6 = IPAddress(v6High: 0, low: 1)

    /// A pair of sockets on loopback: a transmitter's path, and what listens at its end.
    private func pair(
      in host: Host, _ transmitter: inout Transmitter, home: IPAddress = home,
      header: UDPSocket.Header = UDPSocket.Header()
    ) throws -> Descriptor {
      let listener = try listen(in: host, home: home)
      try openPath(in: host, &transmitter, home: home, header: header)
      return listener
    }

    private func listen(in host: Host, home: IPAddress = home) throws -> Descriptor {
      let listener = try host.namespace.perform { () throws(LinuxError) in
        try UDPSocket.listen(local: home, isIPv6: home.isIPv6, port: 4789)
      }.takeQueues().takeOnly()
      // Datagram by datagram, whatever they arrived as.
      _ = listener.setOption(Int32(IPPROTO_UDP), UDP_GRO, 0)
      return listener
    }

    private func openPath(
      in host: Host, _ transmitter: inout Transmitter, home: IPAddress = home,
      header: UDPSocket.Header = UDPSocket.Header()
    ) throws {
      let sender = try host.namespace.perform { () throws(LinuxError) in
        try UDPSocket.connect(
          local: home, remote: home, port: 4789, sourcePort: 50_000, header: header)
      }.takeQueues().takeOnly()
      try transmitter.openPath(path, descriptor: sender.release())
    }

    /// Sends a train whose datagrams hold their number, in vectors that do not end where the
    /// datagrams do.
    ///
    /// Returns what failures came to, as frames by reason.
    private func send(
      _ count: Int, of size: Int, lastSize: Int, outer: OuterHeader = .plain,
      _ transmitter: inout Transmitter
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
          kind: .datagrams, port: .tunnel, path: path, outer: outer, vectorCount: 2,
          segmentSize: UInt16(size), frameCount: UInt16(count),
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
        if completion.tag.kind == .pathError { _ = transmitter.takePathError(completion) }
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

    @Test(arguments: [home, homeIPv6])
    func `where nothing is cut, datagrams leave one by one`(_ home: IPAddress) throws {
      let host = try scene.host("a")
      var transmitter = try makeTransmitter()
      // Linux cuts nothing for a socket that sends without checksums.
      var header = UDPSocket.Header()
      header.hasChecksum = false
      let listener = try pair(in: host, &transmitter, home: home, header: header)
      for count in [200, 40, 2] {
        #expect(send(count, of: 50, lastSize: 9, &transmitter).isEmpty)
        expectTrain(count, of: 50, lastSize: 9, on: listener)
      }
    }

    /// The kernel answers the first send after an ICMP message with its error, and does not carry
    /// it out.
    @Test(arguments: [home, homeIPv6])
    func `an error that waits on a path costs no datagram`(_ home: IPAddress) throws {
      let host = try scene.host("a")
      var transmitter = try makeTransmitter()
      try openPath(in: host, &transmitter, home: home)
      for _ in 0..<3 {
        // Nobody listens: "port unreachable" is there before the send returns, and is taken away
        // after it.
        #expect(send(1, of: 50, lastSize: 50, &transmitter).isEmpty)
        transmitter.submit()
        while let completion = transmitter.ring.nextCompletion() {
          #expect(completion.tag.kind == .pathError)
          _ = transmitter.takePathError(completion)
        }
      }
      let listener = try listen(in: host, home: home)
      #expect(send(5, of: 50, lastSize: 9, &transmitter).isEmpty)
      expectTrain(5, of: 50, lastSize: 9, on: listener)
      // A path that is closed is heard of no more, and its number may be used again.
      let old = transmitter.closePath(path)
      #expect(old >= 0)
      _ = Descriptor(owning: old)
      let late = Completion(
        tag: CompletionTag(.pathError, index: path.rawValue, generation: 1), result: 8,
        hasMore: false)
      _ = transmitter.takePathError(late)
      try openPath(in: host, &transmitter, home: home)
      #expect(send(2, of: 50, lastSize: 9, &transmitter).isEmpty)
      expectTrain(2, of: 50, lastSize: 9, on: listener)
    }

    /// Both for a train and for a single datagram; what is not asked for is the socket's.
    @Test(arguments: [home, homeIPv6], [1, 3])
    func `outer headers are as asked for`(_ home: IPAddress, _ count: Int) throws {
      let host = try scene.host("a")
      var transmitter = try makeTransmitter()
      var header = UDPSocket.Header()
      header.trafficClass = 0x28
      header.hopLimit = 33
      let listener = try pair(in: host, &transmitter, home: home, header: header)
      if home.isIPv6 {
        _ = listener.setOption(Int32(IPPROTO_IPV6), IPV6_RECVHOPLIMIT, 1)
      } else {
        _ = listener.setOption(Int32(IPPROTO_IP), IP_RECVTTL, 1)
      }
      for (asked, expected) in [
        (OuterHeader.plain, (0x28, 33)), (OuterHeader(trafficClass: 0x2B), (0x2B, 33)),
        (OuterHeader(hopLimit: 5), (0x28, 5)),
        (OuterHeader(trafficClass: 1, hopLimit: 255), (1, 255)),
      ] as [(OuterHeader, (UInt8, Int32))] {
        #expect(send(count, of: 50, lastSize: 50, outer: asked, &transmitter).isEmpty)
        for _ in 0..<count {
          let received = try receiveHeader(listener)
          #expect(received.0 == expected.0 && received.1 == expected.1, "\(received)")
        }
      }
    }

    /// Receives a datagram and gives its traffic class, as the worker reads it, and its hop limit.
    private func receiveHeader(_ listener: borrowing Descriptor) throws -> (UInt8, Int32) {
      var receipt = unsafe ovx_receipt()
      var memory = [UInt8](repeating: 0, count: 100)
      let descriptor = listener.rawValue
      return try unsafe memory.withUnsafeMutableBytes { memory in
        try unsafe withUnsafeMutablePointer(to: &receipt) { receipt in
          let message = unsafe ovx_receipt_prepare(receipt, memory.baseAddress, memory.count)
          try #require(unsafe recvmsg(descriptor, message, Int32(MSG_DONTWAIT)) == 50)
          let facts = unsafe ovx_receipt_read(receipt)
          #expect(!facts.truncated)
          // The hop limit is not among what the worker asks for: it is the int behind a cmsghdr of
          // these kinds.
          var hopLimit: Int32 = -1
          let control = unsafe UnsafeRawBufferPointer(
            start: message?.pointee.msg_control, count: Int(message?.pointee.msg_controllen ?? 0))
          var place = 0
          while place + 20 <= control.count {
            let length = unsafe control.loadUnaligned(fromByteOffset: place, as: Int.self)
            let level = unsafe control.loadUnaligned(fromByteOffset: place + 8, as: Int32.self)
            let type = unsafe control.loadUnaligned(fromByteOffset: place + 12, as: Int32.self)
            if (level, type) == (Int32(IPPROTO_IP), IP_TTL)
              || (level, type) == (Int32(IPPROTO_IPV6), IPV6_HOPLIMIT)
            {
              hopLimit = unsafe control.loadUnaligned(fromByteOffset: place + 16, as: Int32.self)
            }
            place += (length + 7) & ~7
          }
          return (facts.traffic_class, hopLimit)
        }
      }
    }

    @Test func `what has nowhere to go fails`() throws {
      var transmitter = try makeTransmitter()
      #expect(send(3, of: 50, lastSize: 50, &transmitter) == [.underlayUnreachable: 3])
    }
  }
}

extension Queues {
  /// Takes the descriptor of a device or a socket out that has one queue.
  consuming func takeOnly() -> Descriptor { Descriptor(owning: release()[0]) }
}
