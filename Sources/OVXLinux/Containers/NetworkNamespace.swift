private import CLinux
private import Glibc
internal import SystemPackage

/// A network namespace, held open: it lives at least as long as this does, whoever else leaves it.
///
/// So a container's must not be held longer than it takes to work in it: its devices would not go
/// with the container.
///
/// A reference, as what is attached to one namespace (devices, their addresses, their watchers)
/// shares it.
package final class NetworkNamespace: Sendable {
  /// What the user called it, for sentences: "red", "pid:4711", "/run/netns/red".
  package let name: String
  /// What tells it from any other.
  package let identity: Identity
  private let descriptor: Descriptor

  /// The namespace's file: two namespaces that are held open are the same if and only if these are
  /// equal.
  ///
  /// Once nobody holds a namespace, the kernel may give its number to another.
  package struct Identity: Hashable, Sendable {
    package let device: UInt64
    package let inode: UInt64
  }

  /// Where `ip netns` keeps the names, the second for systems on which /run is not what /var/run
  /// is.
  static let directories = ["/run/netns", "/var/run/netns"]

  /// Takes the open file of a namespace.
  init(_ descriptor: consuming Descriptor, name: String) throws(LinuxError) {
    var status = stat()
    guard unsafe fstat(descriptor.rawValue, &status) == 0 else {
      throw LinuxError(action: "examine", subject: name, errno: .latest)
    }
    identity = Identity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
    self.name = name
    self.descriptor = descriptor
  }

  /// Opens a namespace that has a name: `ip netns add` makes such.
  package convenience init(named name: String) throws(LinuxError) {
    guard let file = try Self.openNamed(name) else {
      throw LinuxError(
        action: "find", subject: "network namespace \(name)", errno: .noSuchFileOrDirectory,
        detail: "there is none of that name in \(Self.directories[0])",
        remedy: Self.remedy(for: name))
    }
    try self.init(file, name: name)
  }

  /// Opens the namespace in which a process is.
  package convenience init(pid: Int32) throws(LinuxError) {
    try self.init(pid: pid, name: "pid:\(pid)")
  }

  convenience init(pid: Int32, name: String) throws(LinuxError) {
    guard pid > 0, let file = try Self.open("/proc/\(pid)/ns/net", name) else {
      throw LinuxError(
        action: "use", subject: name, errno: .noSuchProcess,
        detail: "there is no process \(pid)",
        remedy: "take the process id that this host shows, not the one inside a container")
    }
    try self.init(file, name: name)
  }

  /// Opens a namespace by the path of its file, such as /proc/4711/ns/net.
  package convenience init(path: String) throws(LinuxError) {
    guard let file = try Self.open(path, path) else {
      throw LinuxError(
        action: "use", subject: path, errno: .noSuchFileOrDirectory,
        detail: "there is no such file", remedy: Self.pathRemedy)
    }
    try self.init(file, name: path)
  }

  /// The namespace in which the calling thread is.
  package static func current() throws(LinuxError) -> NetworkNamespace {
    let name = "the daemon's own network namespace"
    let number = unsafe ovx_open_network_namespace("/proc/thread-self/ns/net")
    guard number >= 0 else {
      throw LinuxError(
        action: "open", subject: name, errno: Errno(rawValue: 0 &- number), remedy: "mount /proc")
    }
    return try NetworkNamespace(Descriptor(owning: number), name: name)
  }

  /// Makes a namespace without a name, which is gone with everything in it once nothing holds it.
  package static func anonymous() throws(LinuxError) -> NetworkNamespace {
    try onThread { () throws(LinuxError) in
      let left = ovx_leave_for_new_network_namespace()
      guard left == 0 else {
        let errno = Errno(rawValue: 0 &- left)
        throw LinuxError(
          action: "create",
          subject: "a network namespace",
          errno: errno,
          remedy: remedy(errno)
        )
      }
      return try current()
    }
  }

  /// The open file's number, for the kernel (`IFLA_NET_NS_FD`).
  var rawValue: Int32 { descriptor.rawValue }

  /// What can be opened inside a namespace, to be used from anywhere.
  package enum Thing {
    /// A socket of rtnetlink(7), unbound.
    case routeNetlink
    /// /dev/net/tun, for a device of the namespace.
    case tun
    /// A UDP socket of the underlay: of the group by which packet filters tell it from others'.
    case underlaySocket(isIPv6: Bool)
    /// A file below /proc/sys/net/ipv4/conf or ipv6/conf, to be read, and written where it can be.
    case setting(path: String)

    fileprivate var number: Int32 {
      let thing =
        switch self {
        case .routeNetlink: OVX_ROUTE_NETLINK
        case .tun: OVX_TUN
        case .underlaySocket(let isIPv6): isIPv6 ? OVX_UDP6 : OVX_UDP4
        case .setting: OVX_SETTING
        }
      return Int32(bitPattern: thing.rawValue)
    }

    fileprivate var path: String { if case .setting(let path) = self { path } else { "" } }
  }

  /// Opens something inside the namespace: by the broker where there is one, else on a thread that
  /// enters it.
  ///
  /// - Throws: What the kernel says; `EPERM` without the right to enter.
  package func open(_ thing: Thing) throws(LinuxError) -> Descriptor {
    guard ovx_broker_has_begun() else {
      return try perform { () throws(LinuxError) in
        let opened = unsafe ovx_open_thing(thing.number, thing.path)
        return try taken(opened)
      }
    }
    let number = descriptor.rawValue
    return try taken(unsafe ovx_broker_open_thing(number, thing.number, thing.path))
  }

  /// Opens something in the calling thread's namespace: by the broker where there is one.
  ///
  /// - Throws: What the kernel says.
  static func openHere(_ thing: Thing) throws(Errno) -> Descriptor {
    let opened: Int32
    if ovx_broker_has_begun() {
      let here = unsafe ovx_open_network_namespace("/proc/thread-self/ns/net")
      guard here >= 0 else { throw Errno(rawValue: 0 &- here) }
      let namespace = Descriptor(owning: here)
      opened = unsafe ovx_broker_open_thing(namespace.rawValue, thing.number, thing.path)
    } else {
      opened = unsafe ovx_open_thing(thing.number, thing.path)
    }
    guard opened >= 0 else { throw Errno(rawValue: 0 &- opened) }
    return Descriptor(owning: opened)
  }

  private func taken(_ opened: Int32) throws(LinuxError) -> Descriptor {
    guard opened < 0 else { return Descriptor(owning: opened) }
    let errno = Errno(rawValue: 0 &- opened)
    if let failure = Broker.failure(errno, action: "work in", subject: name) { throw failure }
    throw LinuxError(action: "work in", subject: name, errno: errno, remedy: Self.remedy(errno))
  }

  /// Runs something inside the namespace and waits for it: in a process that may enter it, which
  /// the daemon may not.
  ///
  /// It runs on a thread of its own that ends afterwards: no other thread ever leaves its
  /// namespace, and there is nothing to restore that restoring could fail for. What it opens (a
  /// netlink socket, a TAP, a UDP socket) stays in the namespace and can be handed out and used
  /// from anywhere.
  ///
  /// - Throws: What the body throws; `EPERM` without the right to enter.
  package func perform<Value: ~Copyable>(
    _ body: () throws(LinuxError) -> Value
  ) throws(LinuxError) -> Value {
    let number = descriptor.rawValue
    let name = name
    return try Self.onThread { () throws(LinuxError) in
      let entered = ovx_enter_network_namespace(number)
      guard entered == 0 else {
        let errno = Errno(rawValue: 0 &- entered)
        throw LinuxError(action: "enter", subject: name, errno: errno, remedy: Self.remedy(errno))
      }
      return try body()
    }
  }

  private static func remedy(_ errno: Errno) -> String? {
    errno == .notPermitted
      ? "run ovx-vswitchd as root, or with the capability CAP_SYS_ADMIN" : nil
  }

  static func remedy(for name: String) -> String {
    "create it with `ip netns add \(name)`, or give pid:N, a path, or a container's name"
  }
}

// MARK: - Opening

extension NetworkNamespace {
  /// Opens the file of a name; `nil` where no namespace has it.
  private static func openNamed(_ name: String) throws(LinuxError) -> Descriptor? {
    guard isName(name) else { return nil }
    // Where a namespace goes without `ip netns`, its name stays behind as an empty file; and
    // outside of the mount namespace where it was named: `ip netns exec` makes one of its own.
    let remedy =
      "make it anew with `ip netns delete \(name)` and `ip netns add \(name)`, not within "
      + "`ip netns exec`, where the name would hold there alone"
    for directory in directories {
      if let file = try open("\(directory)/\(name)", name, remedy: remedy) { return file }
    }
    return nil
  }

  /// Whether a namespace of this name is there.
  static func exists(named name: String) -> Bool {
    isName(name) && directories.contains { unsafe access("\($0)/\(name)", F_OK) == 0 }
  }

  /// Whether a text can be a name, that is one component of a path.
  private static func isName(_ text: String) -> Bool {
    !text.isEmpty && text != "." && text != ".." && !text.utf8.contains(UInt8(ascii: "/"))
      && !text.utf8.contains(0)
  }

  private static let pathRemedy =
    "give the path of a namespace's file, such as /run/netns/NAME or /proc/PID/ns/net"

  /// Opens a namespace's file; `nil` where nothing is there.
  private static func open(
    _ path: String, _ subject: String, remedy: String = pathRemedy
  ) throws(LinuxError) -> Descriptor? {
    guard !path.utf8.contains(0) else { return nil }
    let number =
      ovx_broker_has_begun()
      ? unsafe ovx_broker_open_namespace(path) : unsafe ovx_open_network_namespace(path)
    guard number < 0 else { return Descriptor(owning: number) }
    let errno = Errno(rawValue: 0 &- number)
    if let failure = Broker.failure(errno, action: "open", subject: subject) { throw failure }
    switch errno {
    case .noSuchFileOrDirectory, .noSuchProcess:
      return nil
    case .invalidArgument:
      throw LinuxError(
        action: "use", subject: subject, errno: errno, detail: "it is not a network namespace",
        remedy: remedy)
    case .permissionDenied, .notPermitted:
      throw LinuxError(
        action: "open", subject: subject, errno: errno,
        remedy: "run ovx-vswitchd as root, or with the capability CAP_SYS_PTRACE")
    default:
      throw LinuxError(action: "open", subject: subject, errno: errno)
    }
  }
}

// MARK: - Threads

extension NetworkNamespace {
  /// Runs something on a new thread and waits for it to end.
  private static func onThread<Value: ~Copyable>(
    _ body: () throws(LinuxError) -> Value
  ) throws(LinuxError) -> Value {
    typealias Outcome = Result<Value, LinuxError>
    let outcome = UnsafeMutablePointer<Outcome>.allocate(capacity: 1)
    defer { unsafe outcome.deallocate() }
    // Nothing runs at the same time as the caller, who waits, and nothing outlives the call.
    let failure = withoutActuallyEscaping(body) { body -> Errno? in
      nonisolated(unsafe) let run = {
        do throws(LinuxError) {
          unsafe outcome.initialize(to: .success(try body()))
        } catch {
          unsafe outcome.initialize(to: .failure(error))
        }
      }
      do throws(Errno) {
        pthread_join(try startThread { unsafe run() }, nil)
        return nil
      } catch {
        return error
      }
    }
    if let failure {
      throw LinuxError(
        action: "start", subject: "a thread", errno: failure, remedy: "raise the limit of tasks")
    }
    return try unsafe outcome.move().get()
  }
}
