private import Glibc
private import SystemPackage

/// Watches the names of network namespaces come and go: `ip netns add` and `ip netns delete`.
///
/// What is announced is a change of the directory; a name is given to its namespace a moment after
/// it has appeared.
package final class NamespaceWatch: Sendable {
  private let descriptor: Descriptor
  private static let changes = UInt32(IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO)

  /// - Throws: Where there are too many watches or open files.
  package init() throws(LinuxError) {
    let number = inotify_init1(Int32(IN_NONBLOCK | IN_CLOEXEC))
    guard number >= 0 else {
      throw LinuxError(
        action: "watch", subject: NetworkNamespace.directories[0], errno: .latest,
        remedy: "raise fs.inotify.max_user_instances")
    }
    descriptor = Descriptor(owning: number)
    watch()
  }

  /// Readable once something has changed.
  package var rawValue: Int32 { descriptor.rawValue }

  /// Takes in what is announced.
  ///
  /// - Returns: Whether a name may have come or gone.
  package func takeChanges() -> Bool {
    var buffer = [UInt8](repeating: 0, count: 16 << 10)
    var isChanged = false
    while unsafe read(descriptor.rawValue, &buffer, buffer.count) > 0 { isChanged = true }
    // The directory is made with the first name, and may have been made anew.
    if isChanged { watch() }
    return isChanged
  }

  /// Watches the directory, or while there is none what is above it.
  private func watch() {
    let directory = NetworkNamespace.directories[0]
    let mask = Self.changes | UInt32(IN_DELETE_SELF)
    guard unsafe inotify_add_watch(descriptor.rawValue, directory, mask) < 0 else { return }
    _ = unsafe inotify_add_watch(descriptor.rawValue, "/run", UInt32(IN_CREATE))
  }
}
