import OVXLinux

extension TAP {
  /// Opens a TAP device and says whether the interface outlives the descriptors.
  static func open(
    name: String, persistent: Bool, queues count: Int = 1
  ) throws(LinuxError) -> TAP {
    let tap = try open(name: name, queues: count)
    try tap.setPersistent(persistent)
    return tap
  }

  /// Removes a persistent TAP device from the calling thread's network namespace.
  ///
  /// One that is still open elsewhere stays until it is closed there. That there is none of that
  /// name is no error.
  static func remove(name: String) throws(LinuxError) {
    guard InterfaceIndex(name: name) != nil else { return }
    _ = try open(name: name, persistent: false)
  }
}
