// What operators say of a control plane: `control_plane` of the switch, and how networks take part in it.

extension Configuration.SwitchRecord {
  /// Seconds for which entries of an agent stay where it tells nothing more, 0 for ever: `other_config:evpn-hold`.
  package var agentHold: Int { otherConfig["evpn-hold"].flatMap(Self.agentHold) ?? 120 }

  private static func agentHold(_ text: String) -> Int? {
    if text == "inf" { return 0 }
    guard let seconds = Int(text), AgentUpdate.holdRange.contains(seconds), seconds > 0 else {
      return nil
    }
    return seconds
  }

  /// Checks what is said of the control plane.
  func validateControlPlane() throws(ControlError) {
    if let text = otherConfig["evpn-hold"], Self.agentHold(text) == nil {
      throw ControlError(
        "switch: other_config:evpn-hold \"\(printable(text))\" is neither \"inf\" nor a number of seconds from 1 to "
          + "\(AgentUpdate.holdRange.upperBound); \"remove switch . other_config evpn-hold\" sets it back to 120",
        record: ".")
    }
    guard controlPlane != .none, localIP == nil else { return }
    throw ControlError(
      "control_plane=\(controlPlane.rawValue) needs the address by which other hosts know this one; "
        + "set it, too: \"set switch . local_ip=ADDRESS control_plane=\(controlPlane.rawValue)\"",
      record: ".")
  }
}

/// A route target of two numbers (RFC 4360, section 4; RFC 5668): `AS:NUMBER`.
package struct RouteTarget: Hashable, Sendable, CustomStringConvertible {
  /// 16 bits, or 32 where `number` has 16.
  package var autonomousSystem: UInt32
  package var number: UInt32

  /// `nil` where the two do not fit into six octets.
  package init?(autonomousSystem: UInt32, number: UInt32) {
    guard autonomousSystem <= 0xFFFF || number <= 0xFFFF else { return nil }
    self.autonomousSystem = autonomousSystem
    self.number = number
  }

  /// Reads `AS:NUMBER`; `nil` where it is none.
  package init?(_ text: String) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 2,
      parts.allSatisfy({ $0.utf8.first.map { (0x30...0x39).contains($0) } == true }),
      let system = UInt32(parts[0]), let number = UInt32(parts[1])
    else { return nil }
    self.init(autonomousSystem: system, number: number)
  }

  package var description: String { "\(autonomousSystem):\(number)" }
}

extension Configuration.Network {
  /// Whether frames for stations that the control plane has not told go to all hosts of the network:
  /// `other_config:evpn-flood-unknown`.
  package var floodsUnknown: Bool { otherConfig["evpn-flood-unknown"] == "true" }

  /// The route target of its routes, both ways, where it is not to follow from AS and VNI: `other_config:route-target`.
  package var routeTarget: RouteTarget? { otherConfig["route-target"].flatMap { RouteTarget($0) } }

  /// Checks what is said of the control plane.
  func validateControlPlane() throws(ControlError) {
    if let text = otherConfig["evpn-flood-unknown"], text != "true", text != "false" {
      throw ControlError(
        "network \(name): other_config:evpn-flood-unknown \"\(printable(text))\" is not one of true and false",
        record: name)
    }
    if let text = otherConfig["route-target"], routeTarget == nil {
      throw ControlError(
        "network \(name): other_config:route-target \"\(printable(text))\" is not AS:NUMBER, such as 65000:100, "
          + "of which one has at most 16 bits", record: name)
    }
  }
}
