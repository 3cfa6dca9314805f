import Foundation
import OVXDatapath
import OVXSimulation
import Testing

/// Runs a property once per seed, and records the first seed for which it does not hold.
///
/// `OVX_SEED` replays a seed, `OVX_ROUNDS` multiplies the number of rounds: see `PropertyRounds`.
func checkProperty(_ name: String, rounds: Int, _ body: (_ seed: UInt64) throws -> Void) {
  let rounds = PropertyRounds(name, rounds, environment: ProcessInfo.processInfo.environment)
  if let failure = rounds.firstFailure(body) { Issue.record("\(failure)") }
}

/// Holds a table of a bridge to the reference's: what it lists, and what it has counted.
///
/// - Parameters:
///   - actual: What the switch lists, by key.
///   - lineCount: How many lines that are.
///   - expected: The entries of the reference.
///   - counted: What the switch has counted.
///   - statistics: What the reference has; `current` and `limit` are filled in here.
///   - limit: How many entries there may be.
///   - journal: What was done last, for the report.
/// - Throws: In what they differ.
func checkTable<Key: Hashable, Entry: Equatable>(
  _ actual: [Key: Entry], lineCount: Int, is expected: [Key: Entry], counted: AddressStatistics,
  as statistics: AddressStatistics, limit: Int, after journal: String
) throws {
  guard lineCount == actual.count, lineCount <= limit else {
    throw Discrepancy("\(journal): \(lineCount) lines, limit \(limit)")
  }
  for key in Set(actual.keys).union(expected.keys) where actual[key] != expected[key] {
    throw Discrepancy(
      "\(journal): \(key) is \(String(describing: actual[key])), not "
        + String(describing: expected[key]))
  }
  var statistics = statistics
  statistics.current = expected.count
  statistics.limit = limit
  guard counted == statistics else {
    throw Discrepancy("\(journal): counted \(counted), not \(statistics)")
  }
}

extension SimulatedHost {
  /// Receives a frame by a port, of a tunnel from one of its remotes, as a burst of its own.
  func receive(_ bytes: [UInt8], by port: Topology.Port, from remote: IPAddress?) {
    if let remote, case .tunnel(let tunnel) = port.attachment {
      receive(
        train: vxlanDatagram(vni: tunnel.vni, frame: bytes), segmentSize: 0, on: tunnel.endpoint,
        from: remote)
    } else {
      receive(PartialFrame(bytes), from: port.id)
    }
    endBurst()
  }
}

/// One way out of the switch: a device, or one remote VTEP of a tunnel port.
struct WayOut: Hashable, CustomStringConvertible {
  var port: PortID
  var peer: RemoteVTEPID

  var description: String {
    peer == .none ? "port \(port.rawValue)" : "port \(port.rawValue) peer \(peer.rawValue)"
  }
}

/// What left the switch by each way, as it would look on a wire: superframes cut, checksums
/// complete.
struct Traffic {
  /// A frame in the form in which it is compared.
  private struct Frame: Hashable {
    /// Without the zeros at the end, where the switch may add some.
    var bytes: [UInt8]
    var length: Int
  }

  /// Zeros that the switch may add to a frame in a tunnel, to make it as long as its neighbors.
  private static let paddingLimit = 64

  private var frames: [WayOut: [Frame]] = [:]

  /// What the reference expects.
  init(_ deliveries: [ReferenceSwitch.Delivery]) throws {
    for delivery in deliveries {
      guard let wire = delivery.frame.wireFrames else {
        throw Discrepancy("The reference itself delivers a frame that cannot be cut.")
      }
      add(wire, by: WayOut(port: delivery.port, peer: delivery.peer))
    }
  }

  /// What the switch handed out.
  init(_ sent: [Sent], in topology: Topology) throws {
    for sent in sent {
      switch sent {
      case .frame(let frame, let port):
        guard case .device = topology.port(port)?.attachment else {
          throw Discrepancy("A frame left by port \(port.rawValue), which has no device.")
        }
        guard let wire = frame.wireFrames else {
          throw Discrepancy(
            "Port \(port.rawValue) got a frame whose offload request contradicts it: "
              + "\(frame.offload) \(frame.bytes.hexadecimal)")
        }
        add(wire, by: WayOut(port: port, peer: .none))
      case .datagram(let bytes, let path, let port, let outer):
        guard let (owner, tunnel, peer) = topology.peer(of: path), owner == port else {
          throw Discrepancy("A datagram of port \(port.rawValue) left by path \(path.rawValue).")
        }
        guard Array(bytes.prefix(8)) == vxlanDatagram(vni: tunnel.outgoingVNI, frame: []) else {
          throw Discrepancy("A VXLAN header is wrong: \(bytes.hexadecimal)")
        }
        // The switch looks behind three tags, and behind its own, which may be in the tunnel as one
        // more.
        let inner = Array(bytes.dropFirst(8))
        let asked = [3, 4].map { Self.outerHeader(of: inner, tunnel.outerHeader, tags: $0) }
        guard asked.contains(outer) else {
          throw Discrepancy("\(outer) is asked of the outer header: \(bytes.hexadecimal)")
        }
        guard bytes.count - 8 - 14 <= peer.mtu else {
          throw Discrepancy("\(bytes.count - 8) bytes left for a remote with MTU \(peer.mtu).")
        }
        add([Array(bytes.dropFirst(8))], by: WayOut(port: port, peer: peer.id))
      }
    }
  }

  /// What the options of a tunnel ask of the outer header for a frame, told slowly.
  private static func outerHeader(
    of frame: [UInt8], _ rule: OuterHeaderRule, tags: Int
  ) -> OuterHeader {
    var at = 12
    for _ in 0..<tags {
      guard let type = frame.number16(at: at), type == 0x8100 || type == 0x88A8 else { break }
      at += 4
    }
    let packet = Array(frame.dropFirst(at + 2))
    let isIPv4 = frame.number16(at: at) == 0x0800 && packet.count >= 20 && packet[0] >> 4 == 4
    let isIPv6 = frame.number16(at: at) == 0x86DD && packet.count >= 40 && packet[0] >> 4 == 6
    guard isIPv4 || isIPv6 else { return .plain }
    let inner = isIPv4 ? packet[1] : packet[0] << 4 | packet[1] >> 4
    var header = OuterHeader()
    header.trafficClass =
      rule.inheritsTrafficClass || inner & 3 != 0
      ? (rule.inheritsTrafficClass ? inner & 0xFC : rule.trafficClass) | inner & 3 : 0
    if rule.inheritsHopLimit { header.hopLimit = packet[isIPv4 ? 8 : 7] }
    return header
  }

  private mutating func add(_ wire: [[UInt8]], by way: WayOut) {
    frames[way, default: []] += wire.map { frame in
      // What is joined for a device loses its padding.
      let end = way.peer == .none ? FrameAnatomy(frame)?.packet?.end : nil
      let frame = Array(frame.prefix(end ?? frame.count))
      var bytes = Self.canonical(frame)
      if way.peer == .none { Self.forgetIdentification(of: &bytes) }
      if way.peer != .none, Self.mayBePadded(bytes) {
        bytes = Array(bytes.prefix((bytes.lastIndex { $0 != 0 } ?? -1) + 1))
      }
      return Frame(bytes: bytes, length: frame.count)
    }
  }

  /// The frame with a right checksum in its one usual form: 0 and 0xFFFF are the same sum.
  private static func canonical(_ frame: [UInt8]) -> [UInt8] {
    guard let anatomy = FrameAnatomy(frame), let field = anatomy.checksumField,
      frame.number16(at: field) == 0xFFFF, anatomy.packet?.isTCP == true,
      anatomy.hasRightChecksum(in: frame) == true
    else { return frame }
    var frame = frame
    frame.setNumber(UInt16(0), at: field)
    return frame
  }

  /// What is joined and cut again has new numbers where they mean nothing (RFC 6864): on what is
  /// never fragmented.
  private static func forgetIdentification(of frame: inout [UInt8]) {
    guard let anatomy = FrameAnatomy(frame), let packet = anatomy.packet, !packet.isIPv6,
      let flags = frame.number16(at: anatomy.network + 6), flags & 0x7FFF == 0x4000,
      onesComplementSum(frame[anatomy.network..<anatomy.network + 20]) == 0xFFFF
    else { return }
    frame.setNumber(UInt16(0), at: anatomy.network + 4)
    frame.setNumber(UInt16(0), at: anatomy.network + 10)
  }

  /// Whether receivers find the end of the frame without its length: IP and ARP, under one tag at
  /// most.
  private static func mayBePadded(_ frame: [UInt8]) -> Bool {
    guard let type = frame.number16(at: 12) else { return false }
    let isTagged = type == 0x8100 || type == 0x88A8
    let inner = isTagged ? frame.number16(at: 16) : type
    return inner == 0x0800 || inner == 0x86DD || inner == 0x0806
  }

  /// Says how the switch's traffic differs, if it does: other frames, or those of one flow in
  /// another order.
  func difference(from expected: Traffic) -> String? {
    for way in Set(frames.keys).union(expected.frames.keys) {
      let here = Dictionary(grouping: frames[way] ?? []) { Self.flow($0, on: way) }
      let there = Dictionary(grouping: expected.frames[way] ?? []) { Self.flow($0, on: way) }
      for flow in Set(here.keys).union(there.keys) {
        let actual = here[flow] ?? []
        let wanted = there[flow] ?? []
        let index = zip(actual, wanted).prefix { Self.isSame($0, $1, on: way) }.count
        guard index < max(actual.count, wanted.count) else { continue }
        return "\(way) got \(actual.count) frames of a flow instead of \(wanted.count); number "
          + "\(index) is \(index < actual.count ? actual[index].bytes.hexadecimal : "missing")"
          + ", not \(index < wanted.count ? wanted[index].bytes.hexadecimal : "there")"
      }
    }
    return nil
  }

  private static func isSame(_ actual: Frame, _ wanted: Frame, on way: WayOut) -> Bool {
    let padding = actual.length - wanted.length
    return actual.bytes == wanted.bytes && padding >= 0
      && padding <= (way.peer == .none || !mayBePadded(wanted.bytes) ? 0 : paddingLimit)
  }

  /// What has to stay in order: addresses, tags, and what stands where IP has addresses and ports.
  ///
  /// A packet whose length contradicts the frame is of no flow, whatever else its headers say: no
  /// receiver takes it, and those that it came among may pass it. Among the paths to a remote the
  /// ports of a fragment do not count, so it may leave by another one than the flow that it seems
  /// to be of.
  private static func flow(_ frame: Frame, on way: WayOut) -> [UInt8] {
    let missing = frame.length - frame.bytes.count
    let whole = FrameAnatomy(frame.bytes + [UInt8](repeating: 0, count: missing))
    let bytes = frame.bytes + [UInt8](repeating: 0, count: 64)
    guard let anatomy = FrameAnatomy(bytes) else { return Array(bytes.prefix(12)) }
    let network = anatomy.network
    var headers = Array(bytes.prefix(network))
    if anatomy.etherType == 0x0800 || anatomy.etherType == 0x86DD {
      guard let packet = whole?.packet else { return headers }
      if way.peer != .none { headers.append(packet.isFragment ? 1 : 0) }
    }
    switch anatomy.etherType {
    case 0x0800:
      let transport = network + Int(bytes[network] & 15) * 4
      return headers + bytes[network + 9..<network + 10] + bytes[network + 12..<network + 20]
        + (bytes.dropFirst(transport).prefix(4))
    case 0x86DD:
      return headers + bytes[network + 6..<network + 7] + bytes[network + 8..<network + 44]
    default: return headers
    }
  }
}
