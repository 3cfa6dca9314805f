internal import OVXControl
internal import OVXDatapath
internal import OVXHost
internal import OVXLinux

/// Tells what would become of a frame, in words: `ovx-ctl trace`.
///
/// What becomes of it is a `TraceRun`'s; here it only gets names, and reasons that a person can
/// check.
struct TraceReport {
  private let running: RunningSwitch
  private let configuration: Configuration
  private let topology: Topology
  private var names: [PortID: String] = [:]
  private var reconciler: Reconciler { running.reconciler }

  /// Prepares to tell of the switch as it is now.
  init(_ running: RunningSwitch) {
    self.running = running
    let reconciler = running.reconciler
    configuration = reconciler.configuration
    topology = reconciler.topology
    for name in configuration.ports.keys {
      if let id = reconciler.port(name) { names[id] = name }
    }
  }

  /// Runs a frame through the switch's own forwarding code, and tells of it.
  func trace(_ frame: TracedFrame, from name: String) throws(ControlError) -> Trace {
    guard let port = configuration.ports[name], let id = reconciler.port(name),
      let record = topology.ports.first(where: { $0.id == id })
    else { throw ControlError("port \(name) is not in force, so no frame can come in by it") }
    let entry = try Entry(frame, by: record, name: name, endpoint: reconciler.desired.tunnels[name])
    var trace = TraceRun(topology)
    let dataplane = running.dataplane
    let result = trace.run(entry.input) { question in
      dataplane.perform { datapath in datapath.snapshot(for: question) }
    }

    var steps = [arrival(entry, record, name)]
    if let segment = result.segment {
      steps.append(admission(segment, entry, port))
      if let learning = result.learning { steps.append(self.learning(learning, result, segment)) }
      if let neighbor = result.neighbor { steps.append(self.neighbor(neighbor)) }
      if let decision = result.decision { steps.append(self.decision(decision, result, segment)) }
    }
    steps += result.drops.keys.sorted { $0.rawValue < $1.rawValue }.map {
      // Datagrams of no tunnel are counted at no port.
      drop($0, at: result.ingress == nil ? nil : name)
    }
    if let segment = result.segment, let skip = otherVLANs(result.deliveries, segment) {
      steps.append(skip)
    }
    let deliveries = result.deliveries.sorted {
      place($0.port, $0.peer) < place($1.port, $1.peer)
    }
    steps += deliveries.compactMap { delivery in
      if delivery.outcome == .passedOver(.otherVLAN) { return nil }
      // What is wrong with the frame itself has been said.
      if case .dropped(let reason) = delivery.outcome, result.drops[reason] != nil { return nil }
      return step(for: delivery, result, entry)
    }
    return Trace(
      bridge: port.bridge, port: name,
      frame: FrameSummary(frame: entry.frame, length: entry.frame.count).text, steps: steps,
      verdict: Self.verdict(steps))
  }

  private static func verdict(_ steps: [Trace.Step]) -> String {
    let sent = steps.filter { $0.kind == .send }.map { step in
      (step.port ?? "") + (step.remote.map { " (\($0))" } ?? "")
    }
    var lost: [String] = []
    for step in steps where step.kind == .drop {
      guard let reason = step.reason else { continue }
      let text = step.port.map { "\($0): \(reason)" } ?? reason
      if !lost.contains(text) { lost.append(text) }
    }
    var parts: [String] = []
    if !sent.isEmpty { parts.append("sent by \(sent.joined(separator: ", "))") }
    if !lost.isEmpty { parts.append("dropped (\(lost.joined(separator: ", ")))") }
    return parts.isEmpty ? "sent to nobody, as nobody else is there" : parts.joined(separator: "; ")
  }

  // MARK: Coming in

  private func arrival(_ entry: Entry, _ record: Topology.Port, _ name: String) -> Trace.Step {
    switch record.attachment {
    case .device(let device):
      var step = Trace.Step(.receive, "by \(name), a device with MTU \(device.mtu)", port: name)
      step.bytes = entry.frame.count
      return step
    case .tunnel(let tunnel):
      let vni = entry.vni ?? tunnel.vni
      var step = Trace.Step(
        .decapsulate, "from \(entry.remote.map { "\($0)" } ?? "?") with VNI \(vni), by \(name)",
        port: name, remote: entry.remote)
      step.vni = vni
      return step
    case .waiting:
      let fault = reconciler.fault(of: name)?.sentence
      return Trace.Step(
        .receive, "by \(name), which waits" + (fault.map { ": \($0)" } ?? ""), port: name)
    }
  }

  private func admission(
    _ segment: TraceResult.Segment, _ entry: Entry, _ port: Configuration.Port
  ) -> Trace.Step {
    var text = "\(entry.tagText) on \(Self.describe(port.vlans)): "
    text += segment.vlan == .untagged ? "no VLAN" : "VLAN \(segment.vlan)"
    text += " of \(port.bridge)"
    let vni = vni(of: segment)
    if let vni { text += ", VNI \(vni)" }
    var step = Trace.Step(.admit, text, port: port.name)
    step.vlan = segment.vlan
    step.vni = vni
    return step
  }

  /// The VNI that a segment is bound to, if it has a tunnel.
  private func vni(of segment: TraceResult.Segment) -> VNI? {
    for port in topology.ports where port.bridge == segment.bridge {
      guard case .tunnel(let tunnel) = port.attachment, port.vlans.carries(segment.vlan) else {
        continue
      }
      return tunnel.vni
    }
    return nil
  }

  private static func describe(_ vlans: VLANMembership) -> String {
    func list(_ vlans: Set<VLANID>?) -> String {
      guard let vlans else { return "all VLANs" }
      let few = vlans.sorted().prefix(8).map { "\($0)" }.joined(separator: ", ")
      return vlans.isEmpty
        ? "no VLAN"
        : "VLAN\(vlans.count == 1 ? "" : "s") \(few)\(vlans.count > 8 ? ", ..." : "")"
    }
    return switch vlans {
    case .access(.untagged): "an access port without tag"
    case .access(let own): "an access port of VLAN \(own)"
    case .trunk(let trunks): "a trunk of \(list(trunks))"
    case .nativeTagged(let own, let trunks):
      "a native-tagged port of VLAN \(own) and \(list(trunks))"
    case .nativeUntagged(let own, let trunks):
      "a native-untagged port of VLAN \(own) and \(list(trunks))"
    case .dot1qTunnel(let own, let customers, _):
      "a dot1q-tunnel port of service VLAN \(own) for customers' \(list(customers))"
    }
  }

  // MARK: Learning and deciding

  private func learning(
    _ learning: TraceResult.Learning, _ result: TraceResult,
    _ segment: TraceResult.Segment
  ) -> Trace.Step {
    let here = result.ingress.map { place($0.port, $0.peer) } ?? "?"
    let text =
      switch learning {
      case .known(let before):
        "\(segment.source) is known at \(here), last seen \(before.age ?? 0) s ago"
      case .learned(nil): "\(segment.source) is new, and would be learned at \(here)"
      case .learned(let victim?):
        "\(segment.source) is new, and would be learned at \(here); the table is full, so "
          + "\(victim.address) at \(place(victim.port, victim.peer)) would be forgotten"
      case .moved(let before):
        "\(segment.source) would move to \(here) from \(place(before.port, before.peer))"
      case .held(let before):
        "\(segment.source) was seen at \(place(before.port, before.peer)) \(before.age ?? 0) s ago, and "
          + "by a joined VNI it is not believed to be at \(here) so soon"
      case .isStatic(let entry):
        "\(segment.source) is \(entry.origin == .static ? "static" : "known from an agent") at "
          + "\(place(entry.port, entry.peer)), which a frame does not change"
      case .refused:
        learns(result.ingress)
          ? "\(segment.source) is new, and would not be learned: the table is full of addresses that do not age"
          : "\(segment.source) is new, and would not be learned: an agent tells what is behind \(here)"
      }
    return Trace.Step(.learn, text, port: result.ingress.flatMap { names[$0.port] })
  }

  /// Whether addresses are learned from what comes in there.
  private func learns(_ ingress: Destination?) -> Bool {
    let port = topology.ports.first { $0.id == ingress?.port }
    guard case .tunnel(let tunnel) = port?.attachment else { return true }
    return tunnel.learns
  }

  private func neighbor(_ neighbor: KnownNeighbor) -> Trace.Step {
    Trace.Step(
      .learn,
      "\(neighbor.ip) would be known to be \(neighbor.address) at \(place(neighbor.port, neighbor.peer))",
      port: names[neighbor.port])
  }

  private func decision(
    _ decision: TraceResult.Decision, _ result: TraceResult,
    _ segment: TraceResult.Segment
  ) -> Trace.Step {
    let segmentName = segment.vlan == .untagged ? "no VLAN" : "VLAN \(segment.vlan)"
    switch decision {
    case .answer(let neighbor):
      return Trace.Step(
        .decide,
        "\(neighbor.ip) is known to be \(neighbor.address): the switch answers in its place",
        port: result.ingress.flatMap { names[$0.port] })
    case .direction(let neighbor, let known):
      return Trace.Step(
        .decide,
        "\(neighbor.ip) is known to be \(neighbor.address), but has not told so for \(neighbor.age) s: "
          + "it is asked itself, at \(place(known.port, known.peer)), and nobody else",
        port: names[known.port], remote: remote(known.port, known.peer))
    case .destination(let known):
      let age = known.age.map { "last seen \($0) s ago" } ?? "static"
      return Trace.Step(
        .decide, "\(segment.target) is at \(place(known.port, known.peer)), \(age)",
        port: names[known.port], remote: remote(known.port, known.peer))
    case .nobody:
      return Trace.Step(
        .decide, "\(segment.target) is the address of a port's own device, behind which nobody is")
    case .flood(let isUnknown):
      let what =
        isUnknown
        ? "\(segment.target) is not known"
        : segment.target == .broadcast ? "broadcast" : "\(segment.target) is a group"
      return Trace.Step(.decide, "\(what): to every other port of \(segmentName)")
    }
  }

  /// A port and, where it is a tunnel, the remote behind it.
  private func place(_ port: PortID, _ peer: RemoteVTEPID) -> String {
    let name = names[port] ?? "port \(port.rawValue)"
    return remote(port, peer).map { "\(name) (\($0))" } ?? name
  }

  private func peer(_ port: PortID, _ peer: RemoteVTEPID) -> (Topology.Tunnel, Topology.Peer)? {
    guard let record = topology.ports.first(where: { $0.id == port }),
      case .tunnel(let tunnel) = record.attachment,
      let found = tunnel.peers.first(where: { $0.id == peer })
    else { return nil }
    return (tunnel, found)
  }

  private func remote(_ port: PortID, _ peer: RemoteVTEPID) -> IPAddress? {
    self.peer(port, peer)?.1.remote
  }

  // MARK: Going out

  private func drop(_ reason: DropReason, at name: String?) -> Trace.Step {
    let place = name.map { "at \($0): " } ?? ""
    var step = Trace.Step(.drop, "\(place)\(reason.symbol). \(reason.sentence)", port: name)
    step.reason = reason.symbol
    return step
  }

  /// The ports that are left out because they are none of the segment's, in one line: there may be
  /// a thousand.
  private func otherVLANs(
    _ deliveries: [TraceResult.Delivery], _ segment: TraceResult.Segment
  ) -> Trace.Step? {
    let ports = Set(deliveries.filter { $0.outcome == .passedOver(.otherVLAN) }.map(\.port))
    guard !ports.isEmpty else { return nil }
    let names = ports.compactMap { self.names[$0] }.sorted()
    var text = names.prefix(8).joined(separator: ", ")
    if names.count > 8 { text += " and \(names.count - 8) more" }
    let what = segment.vlan == .untagged ? "frames without VLAN" : "VLAN \(segment.vlan)"
    return Trace.Step(
      .skip, "\(text): \(names.count == 1 ? "does" : "do") not carry \(what)",
      port: names.count == 1 ? names[0] : nil)
  }

  private func step(
    for delivery: TraceResult.Delivery, _ result: TraceResult, _ entry: Entry
  ) -> Trace.Step {
    let name = names[delivery.port] ?? "port \(delivery.port.rawValue)"
    let remote = remote(delivery.port, delivery.peer)
    switch delivery.outcome {
    case .sent(let sent):
      return delivery.peer == .none
        ? self.sent(sent, by: name, delivery.port, result)
        : self.sent(sent, by: name, delivery, remote, result)
    case .dropped(let reason):
      var text = "at \(place(delivery.port, delivery.peer)): \(reason.symbol). \(reason.sentence)"
      if let limit = limit(of: delivery, reason) {
        let packet = (result.segment?.byteCount ?? 0) - 14
        text += " Its packet has \(packet) bytes, and \(limit) fit."
      }
      var step = Trace.Step(.drop, text, port: name, remote: remote)
      step.reason = reason.symbol
      return step
    case .passedOver(let absence):
      let why =
        switch absence {
        case .ingress: "the frame came in there"
        case .otherVLAN: "not of the segment"
        case .splitHorizon:
          "a tunnel, and what a tunnel brought goes to none, unless their VNIs are joined; nor does what comes from or "
            + "goes to a gateway that every host has"
        case .waiting: reconciler.fault(of: name).map { "waits: \($0.sentence)" } ?? "waits"
        case .noRemote: "has no remote that can be reached"
        case .unknownUnicast: "an agent tells all stations behind it, and none has this address"
        case .withoutFloods: "an agent tells that it takes no broadcasts"
        case .unknown: "left out"
        }
      return Trace.Step(.skip, "\(place(delivery.port, delivery.peer)): \(why)", port: name)
    }
  }

  /// Says what leaves by the port that the frame came in by.
  private static func describeAnswer(_ result: TraceResult) -> String {
    if case .answer = result.decision { return ", as an answer" }
    return ", as an answer (ICMP: the packet is too large)"
  }

  /// The MTU that a frame was too large for.
  private func limit(of delivery: TraceResult.Delivery, _ reason: DropReason) -> Int? {
    switch reason {
    case .exceedsTunnelMTU: return peer(delivery.port, delivery.peer)?.1.mtu
    case .exceedsDeviceMTU:
      guard let port = topology.ports.first(where: { $0.id == delivery.port }),
        case .device(let device) = port.attachment
      else { return nil }
      return device.mtu
    default: return nil
    }
  }

  private func sent(
    _ sent: [TraceResult.Sent], by name: String, _ port: PortID,
    _ result: TraceResult
  ) -> Trace.Step {
    let bytes = sent.reduce(0) { $0 + $1.bytes.count }
    var text = "by \(name), \(Entry.tagText(of: sent.first?.bytes ?? []))"
    if port == result.ingress?.port { text += Self.describeAnswer(result) }
    if sent.count > 1 {
      text += ", cut into \(sent.count) frames of up to \(sent.map(\.bytes.count).max() ?? 0) bytes"
    } else {
      text += ", \(bytes) bytes"
    }
    if let offload = sent.first?.offload {
      if offload.isSuperframe {
        text += " as one superframe, to be cut into segments of \(offload.segmentSize) bytes"
      } else if offload.needsChecksum {
        text += ", the checksum left to the device"
      }
    }
    var step = Trace.Step(.send, text, port: name)
    step.bytes = bytes
    step.frames = sent.count
    return step
  }

  private func sent(
    _ sent: [TraceResult.Sent], by name: String, _ delivery: TraceResult.Delivery,
    _ remote: IPAddress?, _ result: TraceResult
  ) -> Trace.Step {
    let frames = sent.reduce(0) { $0 + $1.frameCount }
    let payload = sent.reduce(0) { $0 + $1.bytes.count }
    let headers = (remote?.isIPv6 == true ? 40 : 20) + 8
    let vni = peer(delivery.port, delivery.peer)?.0.outgoingVNI
    var text = "by \(name) to \(remote.map { "\($0)" } ?? "?")"
    if let vni { text += ", VNI \(vni)" }
    if delivery.port == result.ingress?.port { text += Self.describeAnswer(result) }
    text += ", \(Entry.tagText(of: Array(sent.first?.bytes.dropFirst(8) ?? []))) inside"
    if let path = sent.first?.path, let ends = running.dataplane.ends(of: path) {
      text += ", UDP \(ends.local).\(ends.localPort) > \(ends.remote).\(ends.remotePort)"
    }
    if let outer = sent.first?.outer, let remote,
      let header = reconciler.desired.tunnels[name]?.remotes.first(where: { $0.address == remote })?
        .header
    {
      // What is not asked for by frame is as the socket has it.
      let tos = outer.trafficClass == 0 ? header.trafficClass : outer.trafficClass
      let ttl = outer.hopLimit == 0 ? header.hopLimit : outer.hopLimit
      text += ", tos 0x\(String(tos, radix: 16)), ttl \(ttl)"
    }
    if frames > 1 {
      let largest = sent.map { $0.segmentSize > 0 ? $0.segmentSize : $0.bytes.count }.max() ?? 0
      text += ", cut into \(frames) packets of up to \(largest + headers) bytes"
    } else {
      text += ", a packet of \(payload + headers) bytes"
    }
    var step = Trace.Step(.send, text, port: name, remote: remote)
    step.vni = vni
    step.frames = frames
    step.bytes = payload + frames * headers
    return step
  }
}

/// A frame that is to be traced, and how it comes in.
private struct Entry {
  let input: TraceRun.Input
  /// From the Ethernet header on, without what it came in.
  let frame: [UInt8]
  var remote: IPAddress?
  var vni: VNI?

  /// - Throws: What the port has no place for, or does not know.
  init(
    _ traced: TracedFrame, by port: Topology.Port, name: String, endpoint: DesiredState.Tunnel?
  ) throws(ControlError) {
    guard case .tunnel(let tunnel) = port.attachment, let endpoint else {
      guard traced.tunnelSource == nil, traced.vni == nil || endpoint != nil else {
        throw ControlError(
          "port \(name) is no tunnel, so its frames have neither tun_src nor tun_id")
      }
      frame = traced.bytes
      var offload = Offload.none
      if let size = traced.segmentSize {
        guard let request = Offload(segmenting: traced.bytes, into: size) else {
          throw ControlError("only frames of tcp and udp can be superframes; leave segment= out")
        }
        offload = request
      }
      input = .frame(frame, offload: offload, port: port.id)
      return
    }
    guard traced.segmentSize == nil else {
      throw ControlError(
        "port \(name) is a tunnel, which brings no superframes; leave segment= out")
    }
    if traced.tunnelSource == nil, traced.vni == nil,
      let outer = Datagram(traced.bytes, port: endpoint.endpoint.port)
    {
      remote = outer.source
      vni = VXLANHeader(unsafe outer.payload.span.bytes)?.vni
      frame = Array(outer.payload.dropFirst(VXLANHeader.byteCount))
      input = .datagram(
        outer.payload, endpoint: tunnel.endpoint, remote: outer.source,
        trafficClass: outer.trafficClass)
      return
    }
    let remotes = tunnel.peers.map(\.remote)
    guard let source = traced.tunnelSource ?? (remotes.count == 1 ? remotes[0] : nil) else {
      throw ControlError(
        "port \(name) has \(remotes.count) remotes; say from which the frame comes with tun_src=, one of "
          + remotes.map { "\($0)" }.joined(separator: ", "))
    }
    let key = traced.vni ?? tunnel.vni
    remote = source
    vni = key
    frame = traced.bytes
    let header = VXLANHeader.encoded(vni: key)
    let octets = (0..<8).map { UInt8(truncatingIfNeeded: header >> UInt64(56 - 8 * $0)) }
    input = .datagram(octets + frame, endpoint: tunnel.endpoint, remote: source)
  }

  /// How the frame is tagged when it comes in.
  var tagText: String { Self.tagText(of: frame) }

  static func tagText(of frame: [UInt8]) -> String {
    var vlans: [String] = []
    var offset = 12
    while vlans.count < 3, frame.count >= offset + 4,
      [[0x81, 0], [0x88, 0xA8]].contains(Array(frame[offset..<offset + 2]))
    {
      vlans.append("\((Int(frame[offset + 2]) << 8 | Int(frame[offset + 3])) & 0xFFF)")
      offset += 4
    }
    if vlans.isEmpty { return "untagged" }
    return vlans == ["0"] ? "priority-tagged" : "tagged \(vlans.joined(separator: ", then "))"
  }
}

/// A whole packet of the underlay, taken apart.
private struct Datagram {
  var source: IPAddress
  var trafficClass: UInt8
  var payload: [UInt8]

  /// `nil` where the frame is no UDP datagram to the port.
  init?(_ frame: [UInt8], port: UInt16) {
    guard let ethernet = EthernetHeader(unsafe frame.span.bytes) else { return nil }
    let packet = Array(frame.dropFirst(EthernetHeader.byteCount))
    var segment: [UInt8] = []
    var source = IPAddress(v4: 0)
    var trafficClass: UInt8 = 0
    switch ethernet.etherType {
    case .ipv4:
      guard let header = IPv4Header(unsafe packet.span.bytes), header.transport == .udp,
        !header.isFragment
      else { return nil }
      source = header.source
      trafficClass = header.typeOfService
      segment = Array(packet[header.headerLength..<header.totalLength])
    case .ipv6:
      guard let header = IPv6Header(unsafe packet.span.bytes), let layer = header.upperLayer,
        layer.transport == .udp, !layer.isFragment
      else { return nil }
      source = header.source
      trafficClass = header.trafficClass
      segment = Array(packet.dropFirst(layer.offset))
    default: return nil
    }
    guard let header = UDPHeader(unsafe segment.span.bytes), header.destinationPort == port else {
      return nil
    }
    self.source = source
    self.trafficClass = trafficClass
    payload = Array(segment[UDPHeader.byteCount..<header.length])
  }
}
