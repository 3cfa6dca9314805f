/// By which devices of the host each VTEP's datagrams may come in: those that lead to it.
///
/// What comes by another one, such as a bridge's internal port, was sent by somebody else under the
/// VTEP's address. Tunnels with the same remote may send to it from different addresses, and by
/// different routes: any of them will do.
struct Arrivals: ~Copyable, Sendable {
  struct Span: BitwiseCopyable {
    var first: Int32 = 0
    /// Negative for any device.
    var count: Int32 = 0
  }

  /// By the numbers of VTEPs, stretches of `devices`.
  private let spans: FixedArray<Span>
  private let devices: FixedArray<UInt32>

  /// Enters the remotes of the tunnels among the ports; `numbers` has the number of each.
  init(_ ports: [Topology.Port], _ numbers: [IPAddress: UInt32]) {
    var allowed: [Set<UInt32>?] = Array(repeating: [], count: numbers.count)
    for port in ports {
      guard case .tunnel(let tunnel) = port.attachment else { continue }
      for peer in tunnel.peers {
        guard let number = numbers[peer.remote].map(Int.init) else { continue }
        allowed[number] = peer.devices.flatMap { allowed[number]?.union($0) }
      }
    }
    var spans: [Span] = []
    var devices: [UInt32] = []
    for some in allowed {
      spans.append(
        Span(
          first: Int32(clamping: devices.count),
          count: some.map { Int32(clamping: $0.count) } ?? -1))
      devices += (some ?? []).sorted()
    }
    self.spans = FixedArray(spans)
    self.devices = FixedArray(devices)
  }

  private init(_ spans: consuming FixedArray<Span>, _ devices: consuming FixedArray<UInt32>) {
    self.spans = spans
    self.devices = devices
  }

  func copy() -> Arrivals { Arrivals(spans.copy(), devices.copy()) }

  /// Whether datagrams of a VTEP may come in by a device.
  func isExpected(_ vtep: UInt32, by device: UInt32) -> Bool {
    let span = spans[Int(vtep)]
    guard span.count >= 0 else { return true }
    for index in Int(span.first)..<Int(span.first &+ span.count) where devices[index] == device {
      return true
    }
    return false
  }
}
