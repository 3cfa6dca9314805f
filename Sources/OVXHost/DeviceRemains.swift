internal import OVXLinux
private import Synchronization
private import SystemPackage

/// A persistent TAP that the data plane has, as far as the host layer still has to do with it.
protocol TAPHandle: Sendable {
  /// Has the device go when it is closed.
  func giveUp()

  /// Whether the device still exists, in whatever network namespace and by whatever name.
  var isAlive: Bool { get }

  /// The network namespace that it is in.
  func namespace() throws(LinuxError) -> NetworkNamespace
}

/// A second descriptor of a TAP, by which it can be told things while the data plane has the first
/// one.
final class TAPDescriptor: TAPHandle {
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

/// What is left to do when the switch has let go of a device; its queues are closed when this is
/// let go of.
final class DeviceRemains: Sendable {
  private let queues: Mutex<Queues?>
  /// A device of the host, to be deleted.
  let link: Link?
  let handle: (any TAPHandle)?

  init(
    queues: consuming Queues? = nil, link: Link? = nil, handle: (any TAPHandle)? = nil
  ) {
    self.queues = Mutex(queues)
    self.link = link
    self.handle = handle
  }

  /// Removes the device from the host, and lets go of it wherever it has been moved to.
  func end() {
    if let link {
      do throws(LinuxError) {
        var netlink = try Netlink()
        try netlink.delete(link)
      } catch {
        // It is gone already; or it goes when it is closed.
      }
    }
    handle?.giveUp()
    // The kernel takes half as long again to close the packet sockets of a veth, of which there is
    // nothing any more.
    guard link?.kind == "veth" else { return }
    do throws(Errno) {
      try startDetachedThread(stackSize: 64 << 10) { self.close() }
    } catch {
      close()
    }
  }

  private func close() {
    let queues = queues.withLock { $0.take() }
    _ = consume queues
  }
}
