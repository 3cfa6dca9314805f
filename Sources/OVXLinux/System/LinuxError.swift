package import SystemPackage

/// Something that the kernel refused: what was tried, on what, why, and what to do about it.
package struct LinuxError: Error, Hashable, Sendable, CustomStringConvertible {
  /// What was tried, a verb phrase that the subject completes: "open", "set the MTU of".
  package var action: String
  /// What it was tried on, so that the reader finds it: "TAP device tap0".
  package var subject: String
  /// The kernel's reason.
  package var errno: Errno
  /// What is wrong, where that says more than the error number's text.
  package var detail: String?
  /// What the reader can do, a phrase without a full stop, where it is known.
  package var remedy: String?

  package init(
    action: String,
    subject: String,
    errno: Errno,
    detail: String? = nil,
    remedy: String? = nil
  ) {
    self.action = action
    self.subject = subject
    self.errno = errno
    self.detail = detail
    self.remedy = remedy
  }

  /// The whole of it as one sentence without a full stop.
  package var description: String {
    let reason = "cannot \(action) \(subject): \(detail ?? "\(errno)")"
    guard let remedy = remedy ?? generalRemedy else { return reason }
    return "\(reason); \(remedy)"
  }

  /// What helps whatever was tried.
  private var generalRemedy: String? {
    switch errno {
    case .tooManyOpenFiles:
      "let ovx-vswitchd have more open files (LimitNOFILE= of its unit, or ulimit -n), or remove ports"
    case .tooManyOpenFilesInSystem:
      "let the host have more open files (sysctl fs.file-max)"
    default: nil
    }
  }
}
