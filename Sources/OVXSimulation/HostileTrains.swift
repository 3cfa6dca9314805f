package import OVXDatapath

// What tenants can make of what a socket hands over in one piece, and how to see that nothing of
// one reaches another.

/// Bytes that a socket hands over with a segment size, not all by the same hand.
package struct HostileTrain {
  package var bytes: [UInt8]
  /// Bytes of each datagram but the last, as the kernel says.
  package var segmentSize: Int

  /// Whatever bytes.
  package init(raw bytes: [UInt8], segmentSize: Int) {
    self.bytes = bytes
    self.segmentSize = segmentSize
  }

  /// A superframe of a container behind a kernel's VTEP, with VXLAN headers where a train would
  /// have them.
  ///
  /// All but the first header is the container's.
  ///
  /// - Parameters:
  ///   - superframe: What the container wrote.
  ///   - vni: The container's VNI.
  ///   - segmentSize: The size that it gave for its datagrams.
  ///   - header: What it writes to the start of a stride.
  ///   - isForged: At which strides, counted from 1.
  package init(
    superframe: [UInt8], of vni: VNI, segmentSize: Int, header: [UInt8],
    where isForged: (Int) -> Bool
  ) {
    bytes = vxlanDatagram(vni: vni, frame: superframe)
    self.segmentSize = segmentSize
    guard segmentSize > 0 else { return }
    for (number, start) in stride(from: 0, to: bytes.count, by: segmentSize).enumerated()
    where number > 0 && isForged(number) && start + header.count <= bytes.count {
      bytes.replaceSubrange(start..<start + header.count, with: header)
    }
  }

  /// A train of datagrams of several tenants, as the kernel joins what comes from one VTEP by one
  /// source port.
  ///
  /// All but the last are made as long as the first one.
  package init(datagrams: [(vni: VNI, frame: [UInt8])]) {
    segmentSize = 8 + (datagrams.first?.frame.count ?? 0)
    bytes = []
    for datagram in datagrams {
      bytes += vxlanDatagram(vni: datagram.vni, frame: datagram.frame)
      let excess = bytes.count % segmentSize
      if excess > 0 { bytes += [UInt8](repeating: 0, count: segmentSize - excess) }
    }
  }
}

extension [UInt8] {
  /// Lets the frame's IP and UDP lengths reach to so many bytes from its start, and its TCP or UDP
  /// checksum be the sum of the pseudo-header: what a superframe of that length looks like.
  ///
  /// Nothing where it carries no IP.
  package mutating func claim(_ count: Int) {
    guard let anatomy = FrameAnatomy(self), let packet = anatomy.packet else { return }
    let network = anatomy.network
    let lengthField = network + (packet.isIPv6 ? 4 : 2)
    setNumber(UInt16(clamping: count - network - (packet.isIPv6 ? 40 : 0)), at: lengthField)
    let transportCount = count - packet.transport
    if packet.isUDP { setNumber(UInt16(clamping: transportCount), at: packet.transport + 4) }
    let addresses = packet.isIPv6 ? network + 8..<network + 40 : network + 12..<network + 20
    let rest = UInt64(packet.transportProtocol) + UInt64(clamping: transportCount)
    if let field = anatomy.checksumField {
      setNumber(onesComplementSum(self[addresses], startingFrom: rest), at: field)
    }
    if !packet.isIPv6 {
      setNumber(UInt16(0), at: network + 10)
      let header = network..<network + Int(self[network] & 15) * 4
      setNumber(~onesComplementSum(self[header]), at: network + 10)
    }
  }
}

/// Tells by the content of what leaves whether a tenant's frames stay in its VNI.
package struct TenancyWatch {
  /// The devices that frames of each VNI may reach: those in a VLAN of a tunnel of it.
  private let reach: [VNI: Set<PortID>]
  /// What `mark(of:)` says of each of them.
  private let marks: [VNI: [UInt8]]

  /// - Parameters:
  ///   - topology: That of the host.
  ///   - vlans: All VLANs that occur in it.
  package init(_ topology: Topology, vlans: [VLANID]) {
    var reach: [VNI: Set<PortID>] = [:]
    for port in topology.ports {
      guard case .tunnel(let tunnel) = port.attachment else { continue }
      let ports = topology.ports.filter { other in
        guard case .device = other.attachment, other.bridge == port.bridge else { return false }
        return vlans.contains { port.vlans.includes($0) && other.vlans.includes($0) }
      }
      reach[tunnel.vni, default: []].formUnion(ports.map(\.id))
    }
    self.reach = reach
    marks = Dictionary(uniqueKeysWithValues: reach.keys.map { ($0, Self.mark(of: $0)) })
  }

  /// What the payload of a VNI's frames consists of: 16 bytes that are nowhere else.
  package static func mark(of vni: VNI) -> [UInt8] {
    var random = SeededRandom(seed: 0x6D61_726B_0000_0000 | UInt64(vni.rawValue))
    return random.octets(16)
  }

  /// Payload of a VNI's frame.
  package static func payload(of vni: VNI, count: Int) -> [UInt8] {
    let mark = mark(of: vni)
    var payload: [UInt8] = []
    payload.reserveCapacity(max(0, count) + mark.count)
    while payload.count < count { payload += mark }
    payload.removeLast(payload.count - max(0, count))
    return payload
  }

  /// Whether bytes hold the payload of another VNI's frames.
  package func holdsMark(_ bytes: [UInt8], except vni: VNI) -> Bool {
    marks.contains { $0.key != vni && bytes.holds($0.value) }
  }

  /// What is wrong with what a host has sent, in words; `nil` where each tenant's frames stay its
  /// own.
  package func violation(in sent: [Sent]) -> String? {
    for case .frame(let frame, let port) in sent {
      for (vni, ports) in reach where !ports.contains(port) {
        if let mark = marks[vni], frame.bytes.holds(mark) {
          return "Port \(port.rawValue) gets what VNI \(vni) carries: \(frame.bytes.hexadecimal)."
        }
      }
    }
    return nil
  }
}

extension [UInt8] {
  fileprivate func holds(_ mark: [UInt8]) -> Bool {
    guard count >= mark.count, let first = mark.first else { return false }
    var index = 0
    while index <= count - mark.count {
      if self[index] == first, self[index..<index + mark.count].elementsEqual(mark) { return true }
      index += 1
    }
    return false
  }
}
