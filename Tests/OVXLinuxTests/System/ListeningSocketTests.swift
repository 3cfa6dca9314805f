import OVXDatapath
import Testing

@testable import OVXLinux

/// Sockets that take what comes for a port of the host.
@Suite struct ListeningSocketTests {
  @Test func theKernelsTablesAreRead() throws {
    let table = """
        sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
         0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 17 1
         1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 18 1
         2: 0100007F:0016 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 19 1
         3: B80D0120000000000000000001000000:01BB 00000000000000000000000000000000:0000 0A 0:0
         4: 0000000:0016 00000000:0000 0A
         5: 00000000:10016 00000000:0000 0A
         6: 00000000:0000 00000000:0000 0A
         7: 000000
      """
    let found = ListeningSocket.sockets(in: table, transport: 6, state: "0A")
    #expect(
      found.map { "\($0.address) \($0.port)" } == [
        "127.0.0.1 8080", "0.0.0.0 22", "2001:db8::1 443",
      ])
  }

  @Test func thisHostsAreTold() {
    // Whatever there is, nothing is wrong with it.
    #expect(ListeningSocket.all().allSatisfy { $0.port > 0 && [6, 17].contains($0.transport) })
  }
}
