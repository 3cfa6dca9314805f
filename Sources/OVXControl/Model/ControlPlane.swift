// What operators say of a control plane: `control_plane` of the switch.

extension Configuration.SwitchRecord {
  /// Checks what is said of the control plane.
  func validateControlPlane() throws(ControlError) {
    guard controlPlane != .none, localIP == nil else { return }
    throw ControlError(
      "control_plane=\(controlPlane.rawValue) needs the address by which other hosts know this one; "
        + "set it, too: \"set switch . local_ip=ADDRESS control_plane=\(controlPlane.rawValue)\"",
      record: ".")
  }
}
