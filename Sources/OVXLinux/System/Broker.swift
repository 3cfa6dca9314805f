private import CLinux
private import Glibc
private import Synchronization
package import SystemPackage

/// A process of its own that does what takes more rights than moving frames does: the daemon reads
/// what tenants write, and whoever gets hold of it is to have no more than it needs.
///
/// It asks docker and podman for containers, opens the files of network namespaces, and opens a few
/// things inside them (`NetworkNamespace.Thing`). Where a process has none, as the tests and
/// ovx-cni have, it does all of that itself.
package enum Broker {
  /// Starts one, with the rights of this process, or connects to the one that a service manager
  /// starts: before the process has another thread, and once.
  ///
  /// One that is started ends with this process.
  ///
  /// - Parameter path: The socket by which the service's is reached; `nil` to start one.
  /// - Throws: What the kernel says.
  package static func begin(at path: String?) throws(Errno) {
    let status: Int32
    if let path {
      // What that may do is said where the service is described.
      capabilitiesFound.store(.max, ordering: .relaxed)
      status = unsafe ovx_broker_connect(path)
    } else {
      capabilitiesFound.store(
        Preflight.Facts.effectiveCapabilities() ?? 0, ordering: .relaxed)
      status = ovx_broker_begin()
    }
    guard status == 0 else { throw Errno(rawValue: 0 &- status) }
  }

  /// What the broker may do, bit N for capability N; none before there is one.
  static var capabilities: UInt64 { capabilitiesFound.load(ordering: .relaxed) }

  private static let capabilitiesFound = Atomic<UInt64>(0)

  /// Gives up what only the broker needs from here on, in this thread and those that it will start.
  ///
  /// - Throws: What the kernel says.
  package static func leaveRightsToIt() throws(Errno) {
    // There only who has CAP_SYS_ADMIN may use io_uring, or is of a group that mostly nobody has
    // set.
    let isRingForFew = ProcSettings.ioUringPolicy == 1
    let status = ovx_keep_few_capabilities(isRingForFew)
    guard status == 0 else { throw Errno(rawValue: 0 &- status) }
  }

  /// What it means that the broker was asked for something: `EAGAIN` where it has gone, or does not
  /// answer, which says nothing of what it was asked for; `nil` where the error is the thing's own.
  static func failure(_ errno: Errno, action: String, subject: String) -> LinuxError? {
    let meanings: [Errno] = [.brokenPipe, .connectionRefused, .connectionReset, .timedOut]
    guard ovx_broker_has_begun(), meanings.contains(errno) else { return nil }
    return LinuxError(
      action: action, subject: subject, errno: .resourceTemporarilyUnavailable,
      detail: "the process that opens things for ovx-vswitchd (ovx-broker) has gone",
      remedy: "restart ovx-vswitchd")
  }

  /// The host's processes and the network namespaces that they are in, in the order of their
  /// numbers; those that must not be looked at are left out.
  static func processes() -> [(pid: Int32, namespace: NetworkNamespace.Identity)] {
    var all: [(pid: Int32, namespace: NetworkNamespace.Identity)] = []
    var found = ovx_occupants()
    repeat {
      if ovx_broker_has_begun() {
        guard unsafe ovx_broker_look_at_processes(found.next, &found) == 0 else { break }
      } else {
        unsafe ovx_look_at_processes(found.next, &found)
      }
      unsafe withUnsafeBytes(of: found.some) { bytes in
        let some = unsafe bytes.bindMemory(to: ovx_occupant.self)
        for number in 0..<min(Int(found.count), some.count) {
          let occupant = unsafe some[number]
          all.append(
            (
              Int32(clamping: occupant.pid),
              NetworkNamespace.Identity(device: occupant.device, inode: occupant.inode)
            ))
        }
      }
      // A host has no more processes than this (`PID_MAX_LIMIT` of the kernel).
    } while found.next > 0 && all.count < 4 << 20
    return all
  }

  /// The id of the container that a process is in, of which engines show the first twelve digits;
  /// `nil` for none.
  static func container(of pid: Int32) -> String? {
    var id = [CChar](repeating: 0, count: Int(OVX_CONTAINER_ID) + 1)
    if ovx_broker_has_begun() {
      unsafe ovx_broker_container_of(pid, &id)
    } else {
      unsafe ovx_container_of(pid, &id)
    }
    let text = String(decoding: id.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    return text.isEmpty ? nil : text
  }
}
