// What operators say of the fast path.

extension Configuration.SwitchRecord {
  /// Whether programs in the kernel are to repeat the switch's decisions for TCP where they can: `other_config:fast-path`.
  package var usesFastPath: Bool { otherConfig["fast-path"] == "on" }

  /// Checks what is said of the fast path.
  func validateFastPath() throws(ControlError) {
    guard let text = otherConfig["fast-path"], text != "on", text != "off" else { return }
    throw ControlError(
      "switch: other_config:fast-path \"\(printable(text))\" is not one of on and off; "
        + "\"remove switch . other_config fast-path\" sets it back to off", record: ".")
  }
}
