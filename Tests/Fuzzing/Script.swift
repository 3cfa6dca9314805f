private import OVXDatapath

/// What an input of the targets `frames` and `datagrams` says: a topology by its number, and what
/// arrives, in turn.
///
///     0        the topology
///
/// and then for each arrival
///
///     0        the port that it arrives at, counted among those that the target gives bytes to
///     1        bit 0: the burst ends behind it; bit 1: seven seconds pass, too; bit 2: its bytes
///              have VXLAN headers of their own; bit 3: a tag lies beside the frame
///     2, 3     its length, little-endian; what is missing is missing
///     4, 5     the tag's control information, little-endian
///     6…15     at a device: the virtio-net header. At a tunnel: bytes of each datagram but the
///              last (2, little-endian, without the VXLAN header that is put in front of each), the
///              remote (1), the outer ECN field (1)
///     16…      its bytes
///
/// Any bytes make a script, and a script makes the bytes that it is made of.
struct Script {
  var topology: UInt8 = 0
  var arrivals: [Arrival] = []

  struct Arrival {
    static let headerLength = 16
    private static let noOffload = [UInt8](repeating: 0, count: 10)

    var port: UInt8 = 0
    var flags: Flags = []
    var tagControl: UInt16 = 0
    /// Ten bytes.
    var offload = noOffload
    var bytes: [UInt8] = []

    var segmentSize: Int {
      get { Int(offload[0]) | Int(offload[1]) << 8 }
      set {
        offload[0] = UInt8(truncatingIfNeeded: newValue)
        offload[1] = UInt8(truncatingIfNeeded: newValue >> 8)
      }
    }

    var remote: Int { Int(offload[2]) }

    var trafficClass: UInt8 { offload[3] & 3 }
  }

  struct Flags: OptionSet {
    let rawValue: UInt8

    static let endsBurst = Flags(rawValue: 1)
    static let lets7SecondsPass = Flags(rawValue: 2)
    static let hasVXLANHeaders = Flags(rawValue: 4)
    static let hasTagBeside = Flags(rawValue: 8)
  }

  init(_ input: consuming Input) {
    topology = UInt8(input.takeNumber(1))
    while !input.isEmpty {
      var arrival = Arrival()
      arrival.port = UInt8(input.takeNumber(1))
      arrival.flags = Flags(rawValue: UInt8(input.takeNumber(1)))
      let length = input.takeNumber(2)
      arrival.tagControl = UInt16(input.takeNumber(2))
      let offload = input.take(10)
      arrival.offload = offload + arrival.offload[offload.count...]
      arrival.bytes = input.take(length)
      arrivals.append(arrival)
    }
  }

  /// The bytes that say the same.
  var bytes: [UInt8] {
    var bytes = [topology]
    for arrival in arrivals {
      let length = min(arrival.bytes.count, 0xFFFF)
      bytes += [
        arrival.port, arrival.flags.rawValue,
        UInt8(length & 0xFF), UInt8(length >> 8),
        UInt8(arrival.tagControl & 0xFF), UInt8(arrival.tagControl >> 8),
      ]
      bytes += arrival.offload
      bytes += arrival.bytes.prefix(length)
    }
    return bytes
  }
}
