/// What `ovx-gatewayd` tells the switch of the gateways that it makes: which are in force, and what
/// is wrong.
///
/// Each report is the whole of it and takes the place of the one before. It is never stored: it
/// holds for as long as the connection lasts on which it came, so that a process that was killed
/// has nothing to say any more.
package struct GatewayReport: Codable, Equatable, Sendable {
  /// What is wrong with all gateways of the host: sentences without a full stop.
  package var faults: [String]
  /// Each gateway, by its network's name; of one that is not named nothing is known yet.
  package var gateways: [String: Gateway]

  /// What has become of one network's gateway.
  package struct Gateway: Codable, Equatable, Sendable {
    /// Whether the router is there, with the network's port in it, as the network wants it.
    package var isInForce: Bool
    /// What is wrong with it: sentences without a full stop, and without the network's name.
    package var faults: [String]

    package init(isInForce: Bool, faults: [String] = []) {
      self.isInForce = isInForce
      self.faults = faults
    }
  }

  /// Gateways in a report at most, and sentences about one, or about all.
  package static let gatewayLimit = 4096
  package static let faultLimit = 8
  /// Bytes of a sentence at most, and of all together.
  package static let sentenceLimit = 640
  package static let textLimit = 256 << 10

  package init(faults: [String] = [], gateways: [String: Gateway] = [:]) {
    self.faults = faults
    self.gateways = gateways
  }

  private var sentences: [String] { faults + gateways.values.flatMap(\.faults) }

  /// Checks what somebody tells, who may be anybody.
  ///
  /// - Throws: What there is too much of.
  package func validate() throws(ControlError) {
    guard gateways.count <= Self.gatewayLimit else {
      throw ControlError(
        "a report has at most \(Self.gatewayLimit) gateways, not \(gateways.count)")
    }
    guard faults.count <= Self.faultLimit,
      gateways.values.allSatisfy({ $0.faults.count <= Self.faultLimit })
    else {
      throw ControlError(
        "a report has at most \(Self.faultLimit) sentences about one gateway, and about all")
    }
    let sizes = sentences.map(\.utf8.count)
    guard sizes.allSatisfy({ $0 <= Self.sentenceLimit }), sizes.reduce(0, +) <= Self.textLimit
    else {
      throw ControlError(
        "a report has sentences of at most \(Self.sentenceLimit) bytes, and of \(Self.textLimit) together"
      )
    }
  }

  /// The report as the switch takes it: what is too long is cut, and what is too much is left out.
  package var bounded: GatewayReport {
    func bounded(_ faults: [String]) -> [String] {
      faults.prefix(Self.faultLimit).map { fault in
        guard fault.utf8.count > Self.sentenceLimit else { return fault }
        var text = ""
        for scalar in fault.unicodeScalars {
          guard text.utf8.count + 8 <= Self.sentenceLimit else { break }
          text.unicodeScalars.append(scalar)
        }
        return text + "…"
      }
    }
    var report = GatewayReport(faults: bounded(faults))
    var left = Self.textLimit - report.faults.reduce(0) { $0 + $1.utf8.count }
    for (name, gateway) in gateways.sorted(by: { $0.key < $1.key }).prefix(Self.gatewayLimit) {
      var kept: [String] = []
      for fault in bounded(gateway.faults) where fault.utf8.count <= left {
        left -= fault.utf8.count
        kept.append(fault)
      }
      report.gateways[name] = Gateway(isInForce: gateway.isInForce, faults: kept)
    }
    return report
  }
}

/// What the switch knows of a network's gateway on this host.
package struct GatewayState: Equatable, Sendable {
  /// The value of `status:gateway`.
  package enum Condition: String, Codable, Sendable {
    /// It is in force.
    case up
    /// It is not, or not as the network wants it.
    case down
    /// It is there as it was made, and nobody looks after it.
    case unattended
  }

  package var condition: Condition
  /// What is wrong with it, sentences without a full stop.
  package var faults: [String]

  package init(_ condition: Condition, faults: [String] = []) {
    self.condition = condition
    self.faults = faults
  }
}
