private import CLinux
private import Glibc
package import OVXDatapath
internal import SystemPackage

/// An open TAP device: the switch's end of an Ethernet cable whose other end is a network
/// interface.
///
/// Frames are read and written with a 10-byte virtio-net header in front (`Offload`), so that
/// superframes and missing checksums pass through. The interface lives in the network namespace of
/// the thread that opened it, and may be moved to another one while it is open.
///
/// With several queues, the kernel gives the frames of a flow to the queue by which frames of that
/// flow were last written (`tun_automq_select_queue` of drivers/net/tun.c), so that a flow stays
/// with one worker both ways.
package struct TAP: ~Copyable, Sendable {
  let queues: Queues
  /// The interface's name, 1...15 bytes.
  package let name: String
  /// What the kernel agreed to take and give with the device.
  package let capabilities: OffloadCapabilities

  /// Opens a TAP device, and makes it if there is none of that name.
  ///
  /// A new one does not outlive its descriptors. Offloads are negotiated downwards from all of
  /// them.
  ///
  /// - Parameters:
  ///   - name: 1...15 bytes without `/` and white space.
  ///   - count: How many queues to have. One that was made with a single queue stays so.
  ///   - namespace: Where it is; `nil` for the calling thread's network namespace.
  /// - Throws: `.noSuchFileOrDirectory` without /dev/net/tun, `.notPermitted` without
  ///   CAP_NET_ADMIN, `.resourceBusy` where another process has it open, `.invalidArgument` where
  ///   the name belongs to another kind of interface.
  /// - Returns: The device, non-blocking.
  package static func open(
    name: String,
    queues count: Int = 1,
    in namespace: NetworkNamespace? = nil
  ) throws(LinuxError) -> TAP {
    let subject = "TAP device \(name)"
    guard (1...15).contains(name.utf8.count) else {
      throw LinuxError(
        action: "open",
        subject: subject,
        errno: .fileNameTooLong,
        remedy: "an interface's name has 1 to 15 bytes"
      )
    }
    let descriptor = try openTUN(for: subject, in: namespace)
    let number = descriptor.rawValue
    var isMultiQueue = count > 1
    let attached = FormerDaemon.retryWhileBusy(EBUSY) {
      let attached = unsafe ovx_attach_tap(number, name, isMultiQueue)
      guard attached == -EINVAL else { return attached }
      // Made with another number of workers: it can have several queues or not for as long as it
      // lives.
      isMultiQueue.toggle()
      return unsafe ovx_attach_tap(number, name, isMultiQueue)
    }
    guard attached == 0 else { throw refusal(of: subject, -attached) }
    let header = ovx_set_tap_header_size(number, Int32(Offload.byteCount))
    guard header == 0 else {
      throw LinuxError(
        action: "set the virtio-net header's size of",
        subject: subject,
        errno: Errno(rawValue: -header)
      )
    }
    let capabilities = negotiateOffloads(number)
    var queues = Queues(descriptor)
    while isMultiQueue, queues.count < count {
      let queue = try openTUN(for: subject, in: namespace)
      let attached = unsafe ovx_attach_tap(queue.rawValue, name, true)
      guard attached == 0 else { throw refusal(of: subject, -attached) }
      queues.append(queue)
    }
    return TAP(queues: queues, name: name, capabilities: capabilities)
  }

  /// Takes over an open TAP that another process had.
  ///
  /// - Parameter queues: Its descriptors.
  /// - Returns: The device by the name that it has now, wherever it is; `nil` where they are not of
  ///   one TAP that has virtio-net headers.
  package static func adopt(_ queues: consuming Queues) -> TAP? {
    guard let name = name(of: queues.first) else { return nil }
    for number in queues.all where self.name(of: number) != name { return nil }
    guard ovx_set_tap_header_size(queues.first, Int32(Offload.byteCount)) == 0 else { return nil }
    let capabilities = negotiateOffloads(queues.first)
    return TAP(queues: queues, name: name, capabilities: capabilities)
  }

  private static func name(of number: Int32) -> String? {
    var name = [CChar](repeating: 0, count: Int(IFNAMSIZ))
    guard unsafe ovx_tap_name(number, &name) == 0 else { return nil }
    return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  private static func openTUN(
    for subject: String, in namespace: NetworkNamespace?
  ) throws(LinuxError) -> Descriptor {
    if let namespace { return try namespace.open(.tun) }
    do throws(Errno) { return try NetworkNamespace.openHere(.tun) } catch {
      throw refusal(of: subject, error.rawValue)
    }
  }

  /// Says whether the interface outlives the descriptor.
  ///
  /// To be asked for last: until then a process that dies leaves nothing half-made behind.
  package borrowing func setPersistent(_ isPersistent: Bool) throws(LinuxError) {
    let persisted = ovx_set_tap_persistent(queues.first, isPersistent)
    guard persisted == 0 else {
      throw LinuxError(
        action: "set the persistence of",
        subject: "TAP device \(name)",
        errno: Errno(rawValue: -persisted)
      )
    }
  }

  /// Whether the device exists, in whatever network namespace and by whatever name.
  package var isAlive: Bool { ovx_tap_is_alive(queues.first) }

  /// The network namespace that the device is in, wherever it was moved to.
  package func namespace() throws(LinuxError) -> NetworkNamespace {
    try Self.namespace(of: queues.first)
  }

  /// The same of a descriptor of a TAP.
  package static func namespace(of descriptor: Int32) throws(LinuxError) -> NetworkNamespace {
    let name = name(of: descriptor) ?? "that is gone"
    let number = ovx_tap_namespace(descriptor)
    guard number >= 0 else {
      throw LinuxError(
        action: "find the network namespace of", subject: "TAP device \(name)",
        errno: Errno(rawValue: 0 &- number))
    }
    return try NetworkNamespace(Descriptor(owning: number), name: "that of \(name)")
  }

  /// Opens another descriptor of the same open device.
  ///
  /// With it the device can be told things while a worker has the first one; the device is closed
  /// once both are.
  package borrowing func duplicate() throws(LinuxError) -> TAP {
    let number = fcntl(queues.first, F_DUPFD_CLOEXEC, 0)
    guard number >= 0 else {
      throw LinuxError(action: "duplicate", subject: "TAP device \(name)", errno: .latest)
    }
    return TAP(
      queues: Queues(Descriptor(owning: number)), name: name, capabilities: capabilities)
  }

  /// Takes the descriptors out.
  package consuming func takeQueues() -> Queues { queues }

  /// Asks for every offload, and for less until the kernel agrees: USO is of Linux 6.2.
  private static func negotiateOffloads(_ number: Int32) -> OffloadCapabilities {
    let checksum = UInt(ovx_tun_checksum)
    let tcp = checksum | UInt(ovx_tun_tcp4 | ovx_tun_tcp6)
    let ecn = UInt(ovx_tun_ecn)
    let udp = UInt(ovx_tun_udp)
    let offers: [(bits: UInt, capabilities: OffloadCapabilities)] = [
      (tcp | ecn | udp, .all),
      (tcp | udp, .all),
      (tcp | ecn, [.checksum, .tcp4, .tcp6]),
      (tcp, [.checksum, .tcp4, .tcp6]),
      (checksum, .checksum),
    ]
    for offer in offers where ovx_set_tap_offloads(number, offer.bits) == 0 {
      return offer.capabilities
    }
    _ = ovx_set_tap_offloads(number, 0)
    return []
  }

  private static func refusal(of subject: String, _ code: Int32) -> LinuxError {
    let errno = Errno(rawValue: code)
    let remedy: String? =
      switch errno {
      case .notPermitted, .permissionDenied:
        "run as root, or with CAP_NET_ADMIN and access to /dev/net/tun"
      case .noSuchFileOrDirectory, .operationNotSupportedByDevice, .noSuchAddressOrDevice:
        "/dev/net/tun is needed: `modprobe tun`, or give the container that device"
      case .resourceBusy:
        "another process has it open; find it with `grep -l iff: /proc/*/fdinfo/*`"
      case .invalidArgument:
        "the name is not allowed, or belongs to an interface that is no TAP"
      default: nil
      }
    return LinuxError(
      action: "open",
      subject: subject,
      errno: errno,
      remedy: remedy
    )
  }
}
