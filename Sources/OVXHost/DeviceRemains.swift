internal import OVXLinux

/// A second descriptor of a TAP, by which it can be told things while the data plane has the first one.
final class TAPHandle: Sendable {
  private let tap: TAP

  init(_ tap: borrowing TAP) throws(LinuxError) {
    self.tap = try tap.duplicate()
  }

  /// Has the device go when it is closed.
  func giveUp() { try? tap.setPersistent(false) }

  /// Whether the device still exists, in whatever network namespace and by whatever name.
  var isAlive: Bool { tap.isAlive }

  /// The network namespace that it is in.
  func namespace() throws(LinuxError) -> NetworkNamespace { try tap.namespace() }
}

/// What is left to do when the switch has let go of a device; its queues are closed when this is let go of.
final class DeviceRemains: Sendable {
  private let queues: Queues?
  /// A device of the host, to be deleted.
  private let link: Link?
  private let handle: TAPHandle?

  init(
    queues: consuming Queues? = nil, link: Link? = nil, handle: TAPHandle? = nil
  ) {
    self.queues = queues
    self.link = link
    self.handle = handle
  }

  func end() {
    if let link {
      do throws(LinuxError) {
        var netlink = try Netlink()
        try netlink.delete(link)
      } catch {
        // It is gone already; or it goes when it is closed.
      }
    }
    // Wherever it has been moved to.
    handle?.giveUp()
  }

  /// Has the kernel remove or close many devices at a time; with more than so many it gets no faster.
  static func end(_ remains: consuming [DeviceRemains]) {
    forEachConcurrently(remains, threads: 64) { $0.end() }
  }
}
