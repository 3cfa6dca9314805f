// What operators say of the fast path.

/// Whether the fast path is to be used.
package enum FastPathUse: String {
  case off
  /// Where no rules of the host are passed by: on the underlay those that its own packets are held against.
  case auto
  case on
}

extension Configuration.SwitchRecord {
  /// Whether programs in the kernel are to repeat the switch's decisions for TCP where they can: `other_config:fast-path`.
  package var fastPath: FastPathUse {
    otherConfig["fast-path"].flatMap(FastPathUse.init(rawValue:)) ?? .off
  }

  /// Checks what is said of the fast path.
  func validateFastPath() throws(ControlError) {
    guard let text = otherConfig["fast-path"], FastPathUse(rawValue: text) == nil else { return }
    throw ControlError(
      "switch: other_config:fast-path \"\(printable(text))\" is not one of auto, on and off; "
        + "\"remove switch . other_config fast-path\" sets it back to off", record: ".")
  }
}
