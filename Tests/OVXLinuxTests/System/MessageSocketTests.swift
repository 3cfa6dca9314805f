import Glibc
import Testing

@testable import OVXLinux

/// Messages between two processes of a host.
@Suite struct MessageSocketTests {
  /// The kernel reports an end that was closed with something unread before it gives what that end
  /// had sent.
  @Test func whatWasSaidLastIsHeard() throws {
    var ends: [Int32] = [-1, -1]
    try #require(unsafe socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0, &ends) == 0)
    let new = MessageSocket(Descriptor(owning: ends[1]))
    try new.send([1])
    do {
      let old = MessageSocket(Descriptor(owning: ends[0]))
      try old.send([2])
    }
    #expect(try new.receive()?.bytes == [2])
    #expect(try new.receive() == nil)
  }
}
