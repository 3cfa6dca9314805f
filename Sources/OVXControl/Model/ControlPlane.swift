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

  /// Routes that each network may have of other hosts: `other_config:evpn-limit`.
  package var agentRouteLimit: Int {
    otherConfig["evpn-limit"].flatMap(Self.agentRouteLimit) ?? Self.usualRouteLimit
  }

  private static let routeLimitRange = 1...16_777_216
  private static let usualRouteLimit = 131_072

  private static func agentRouteLimit(_ text: String) -> Int? {
    Int(text).flatMap { routeLimitRange.contains($0) ? $0 : nil }
  }

  /// Checks what is said of the control plane.
  func validateControlPlane() throws(ControlError) {
    if let text = otherConfig["evpn-limit"], Self.agentRouteLimit(text) == nil {
      throw ControlError(
        "switch: other_config:evpn-limit \"\(printable(text))\" is not a number of routes from "
          + "\(Self.routeLimitRange.lowerBound) to \(Self.routeLimitRange.upperBound); "
          + "\"remove switch . other_config evpn-limit\" sets it back to \(Self.usualRouteLimit)",
        record: ".")
    }
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

extension Configuration.Network {
  /// Whether frames for stations that the control plane has not told go to all hosts of the network:
  /// `other_config:evpn-flood-unknown`.
  package var floodsUnknown: Bool { otherConfig["evpn-flood-unknown"] == "true" }

  /// The route target of its routes, both ways, where it is not to follow from AS and VNI: `other_config:route-target`.
  ///
  /// `AS:NUMBER`; one of an IPv4 address does not count.
  package var routeTarget: RouteTarget? {
    otherConfig["route-target"].flatMap { RouteTarget($0) }.flatMap { $0.isOfAddress ? nil : $0 }
  }

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
