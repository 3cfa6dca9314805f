private import Glibc

/// What a service manager is told, by the protocol of sd_notify(3): datagrams of `KEY=value` lines
/// to the socket that the environment names.
///
/// Without such a socket, and where it cannot be reached, nothing happens.
struct ServiceNotification {
  private let address: String?

  /// Whether a service manager has started this process, and takes its log from its standard error.
  static var isExpected: Bool { unsafe getenv("NOTIFY_SOCKET") != nil }

  /// Reads the address from `NOTIFY_SOCKET`.
  init() {
    address = unsafe getenv("NOTIFY_SOCKET").map { unsafe String(cString: $0) }
  }

  /// The daemon answers commands, and what was configured is in force as far as it can be.
  func ready(status: String) { send("READY=1\nMAINPID=\(getpid())\nSTATUS=\(status)") }

  /// Another process has taken this one's place, and is the one to look after.
  func handedOver(to process: Int32) { send("MAINPID=\(process)") }

  /// The daemon is about to end.
  func stopping() { send("STOPPING=1") }

  private func send(_ text: String) {
    guard let address, address.hasPrefix("/") || address.hasPrefix("@") else { return }
    var path = Array(address.utf8)
    // "@" stands for the zero byte that begins a name in the abstract name space.
    if path[0] == UInt8(ascii: "@") { path[0] = 0 }
    var name = sockaddr_un()
    // sun_path holds 108 bytes (unix(7)).
    guard path.count < 108 else { return }
    name.sun_family = sa_family_t(AF_UNIX)
    unsafe withUnsafeMutableBytes(of: &name.sun_path) { unsafe $0.copyBytes(from: path) }
    let size = socklen_t(MemoryLayout<sa_family_t>.size + path.count)

    let socket = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard socket >= 0 else { return }
    defer { close(socket) }
    let bytes = Array(text.utf8)
    let flags = Int32(bitPattern: UInt32(MSG_NOSIGNAL) | UInt32(MSG_DONTWAIT))
    _ = unsafe withUnsafePointer(to: &name) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
        unsafe sendto(socket, bytes, bytes.count, flags, pointer, size)
      }
    }
  }
}
