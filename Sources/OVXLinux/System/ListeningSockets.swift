package import OVXDatapath

/// A socket of this network namespace that takes what comes for a port, whoever sends it.
package struct ListeningSocket: Hashable, Sendable {
  /// All zeros for any address of the host.
  package var address: IPAddress
  package var port: UInt16
  /// The number of its protocol in IP: 6 or 17.
  package var transport: UInt8

  package init(address: IPAddress, port: UInt16, transport: UInt8) {
    self.address = address
    self.port = port
    self.transport = transport
  }

  /// Those of TCP that listen, and those of UDP that are connected to nobody; the kernel tells of
  /// listening ones first, and no more than some thousand are read.
  package static func all() -> [ListeningSocket] {
    var all: [ListeningSocket] = []
    for (table, transport, state) in [("tcp", 6, "0A"), ("udp", 17, "07")] as [(String, UInt8, _)] {
      for suffix in ["", "6"] {
        let text = Files.read("/proc/self/net/\(table)\(suffix)", limit: 1 << 18) ?? ""
        all += sockets(in: text, transport: transport, state: state)
      }
    }
    return all
  }

  /// Reads a table as the kernel writes it: `0: 0100007F:1F90 00000000:0000 0A …`, addresses in
  /// words of the host's byte order.
  static func sockets(in text: String, transport: UInt8, state: String) -> [ListeningSocket] {
    text.split(separator: "\n").compactMap { line in
      let words = line.split(separator: " ", maxSplits: 4)
      guard words.count > 3, words[3] == state else { return nil }
      let ends = words[1].split(separator: ":")
      guard ends.count == 2, let port = UInt16(ends[1], radix: 16), port > 0,
        ends[0].utf8.count.isMultiple(of: 8)
      else { return nil }
      var octets: [UInt8] = []
      var rest = ends[0]
      while !rest.isEmpty {
        guard let word = UInt32(rest.prefix(8), radix: 16) else { return nil }
        octets += (0..<4).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) }
        rest = rest.dropFirst(8)
      }
      return IPAddress(octets: octets).map {
        ListeningSocket(address: $0, port: port, transport: transport)
      }
    }
  }
}
