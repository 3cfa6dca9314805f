package import OVXDatapath

/// What would become of a frame: `ovx-ctl trace`.
///
/// In JSON an object with these members; of a step's optional ones those that it has.
package struct Trace: Codable, Equatable, Sendable {
  package var bridge: String
  package var port: String
  /// The frame in one line.
  package var frame: String
  /// What happens to it, in the order in which it happens.
  package var steps: [Step]
  /// What it comes to, a sentence's part.
  package var verdict: String

  package init(bridge: String, port: String, frame: String, steps: [Step], verdict: String) {
    self.bridge = bridge
    self.port = port
    self.frame = frame
    self.steps = steps
    self.verdict = verdict
  }

  /// One decision.
  package struct Step: Codable, Equatable, Sendable {
    package var kind: Kind
    /// The decision and why, for a person.
    package var text: String
    /// The port that the decision is about.
    package var port: String?
    /// On a tunnel, the remote VTEP that it is about.
    package var remote: IPAddress?
    package var vlan: VLANID?
    package var vni: VNI?
    /// What is sent: bytes of all frames, or of the outer IP packets on a tunnel.
    package var bytes: Int?
    /// How many frames, or datagrams on a tunnel, are sent.
    package var frames: Int?
    /// For a drop, its reason's symbol, as `drops` counts it.
    package var reason: String?

    package init(_ kind: Kind, _ text: String, port: String? = nil, remote: IPAddress? = nil) {
      self.kind = kind
      self.text = text
      self.port = port
      self.remote = remote
    }
  }

  package enum Kind: String, Codable, Sendable {
    /// It comes in by a device.
    case receive
    /// It comes in by a tunnel.
    case decapsulate
    /// It may be here, and is in this segment.
    case admit
    /// What its source address adds to the address table.
    case learn
    /// Where it goes to.
    case decide
    /// It leaves by a port.
    case send
    /// It does not leave by a port, which is as it should be.
    case skip
    /// It dies.
    case drop
  }

  /// The trace as lines of text, one for each decision.
  package var lines: [String] {
    let rows =
      [("frame", frame)] + steps.map { ($0.kind.rawValue, $0.text) } + [("verdict", verdict)]
    let width = rows.map(\.0.count).max() ?? 0
    return rows.map { kind, text in
      kind + String(repeating: " ", count: width - kind.count) + "  " + text
    }
  }
}
