internal import CLinux
private import Glibc
package import SystemPackage

/// One end of a connection of messages between two processes of a host, by which descriptors go,
/// too (`SOCK_SEQPACKET`).
///
/// Each message arrives whole or not at all. Both ways wait, for `patience` at most.
package struct MessageSocket: ~Copyable, Sendable {
  /// Bytes of a message at most.
  package static let sizeLimit = 60_000
  /// Descriptors that go with one at most.
  package static let descriptorLimit = Int(OVX_HANDED_LIMIT)

  private let descriptor: Descriptor

  /// A message that has arrived; its descriptors are the receiver's to close.
  package struct Message {
    package var bytes: [UInt8]
    package var descriptors: [Int32]
  }

  /// Takes a connected socket.
  package init(_ descriptor: consuming Descriptor) {
    self.descriptor = descriptor
    // Where it is not permitted, tables just go in smaller portions.
    _ = self.descriptor.setOption(SOL_SOCKET, SO_SNDBUFFORCE, 1 << 20)
  }

  /// The descriptor's number, valid for as long as the socket lives.
  package var rawValue: Int32 { descriptor.rawValue }

  /// How long sending and receiving wait from now on, in milliseconds; 0 for as long as it takes.
  package func wait(upTo milliseconds: Int) {
    var time = timeval(tv_sec: milliseconds / 1000, tv_usec: milliseconds % 1000 * 1000)
    let size = socklen_t(MemoryLayout<timeval>.size)
    for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
      _ = unsafe setsockopt(descriptor.rawValue, SOL_SOCKET, option, &time, size)
    }
  }

  /// Sends a message.
  ///
  /// - Throws: `.brokenPipe` where nobody receives any more, `.resourceTemporarilyUnavailable`
  ///   where nobody did in time.
  package func send(_ bytes: [UInt8], _ descriptors: [Int32] = []) throws(Errno) {
    let status = unsafe ovx_send_message(
      descriptor.rawValue, bytes, bytes.count, descriptors, descriptors.count)
    guard status == 0 else { throw Errno(rawValue: 0 &- status) }
  }

  /// Receives a message; `nil` where the other end is closed.
  ///
  /// - Throws: `.resourceTemporarilyUnavailable` where none came in time, `.messageTooLong` for one
  ///   that is too long.
  package func receive() throws(Errno) -> Message? {
    var bytes = [UInt8](repeating: 0, count: Self.sizeLimit)
    var descriptors = [Int32](repeating: -1, count: Self.descriptorLimit)
    var count = 0
    let length = unsafe ovx_receive_message(
      descriptor.rawValue, &bytes, bytes.count, &descriptors, &count)
    guard length >= 0 else { throw Errno(rawValue: Int32(truncatingIfNeeded: 0 &- length)) }
    if length == 0 {
      for number in descriptors.prefix(count) { _ = Descriptor(owning: number) }
      return nil
    }
    return Message(
      bytes: Array(bytes.prefix(length)), descriptors: Array(descriptors.prefix(count)))
  }

  /// Receives nothing more: what is in the queue can still be taken out, and whoever sends from
  /// here on is told.
  ///
  /// The kernel does it at one moment, so that afterwards both ends know which messages have
  /// arrived.
  package func stopReceiving() { _ = shutdown(descriptor.rawValue, Int32(SHUT_RD)) }
}
