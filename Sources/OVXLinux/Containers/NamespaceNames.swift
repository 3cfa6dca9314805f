private import CLinux
private import Glibc
private import SystemPackage

extension NetworkNamespace {
  /// The names that `ip netns` lists.
  package static func names() -> [String] { entries(of: directories[0]).sorted() }

  /// The names in a directory, in no order; none where it cannot be read.
  static func entries(of path: String) -> [String] {
    guard let directory = unsafe opendir(path) else { return [] }
    defer { unsafe closedir(directory) }
    var names: [String] = []
    while let entry = unsafe readdir(directory) {
      let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
        unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names
  }
}

extension Netlink {
  /// The number by which this namespace knows another one (`IFLA_LINK_NETNSID`); `nil` where it has
  /// none.
  package mutating func number(of namespace: NetworkNamespace) throws(LinuxError) -> Int32? {
    // The header is `rtgenmsg`, one byte, and attributes begin at the next multiple of four.
    var request = NetlinkRequest(type: Int(RTM_GETNSID), flags: 0, family: UInt32(AF_UNSPEC))
    request.put(Self.fileAttribute, descriptor: namespace.rawValue)
    var number: Int32?
    try transact(
      request, for: Purpose(action: "look up", subject: "network namespace \(namespace.name)")
    ) { message in
      guard message.type == Int(RTM_NEWNSID) else { return }
      message.forEachAttribute(after: MemoryLayout<UInt32>.size) { type, value in
        if type == Self.numberAttribute { number = value.int32 }
      }
    }
    return number.flatMap { $0 >= 0 ? $0 : nil }
  }

  /// `NETNSA_NSID` and `NETNSA_FD` of <linux/net_namespace.h>.
  private static let numberAttribute = 1
  private static let fileAttribute = 3
}

extension Link {
  /// The speed of a device of the calling thread's namespace in bits per second; `nil` where it has
  /// none.
  package var speed: Int? {
    let megabits = unsafe ovx_link_speed(name)
    return megabits >= 0 ? megabits * 1_000_000 : nil
  }
}

// MARK: - Given and taken back by a process of its own

extension NetworkNamespace {
  /// Has the process that serves a socket give the namespace a name that all of the host see
  /// (`ovx-broker names`).
  ///
  /// - Throws: What that says; `EEXIST` where there is the name.
  package func give(_ name: String, by socket: String) throws(LinuxError) {
    try Self.ask(socket, name, rawValue, action: "name")
  }

  /// Has it take a name back from whatever namespace has it.
  package static func takeBack(_ name: String, by socket: String) throws(LinuxError) {
    try ask(socket, name, -1, action: "remove")
  }

  private static func ask(
    _ socket: String, _ name: String, _ number: Int32, action: String
  ) throws(LinuxError) {
    let status = unsafe ovx_names_ask(socket, name, number)
    guard status != 0 else { return }
    let errno = Errno(rawValue: 0 &- status)
    let isGone = errno == .noSuchFileOrDirectory || errno == .connectionRefused
    throw LinuxError(
      action: action, subject: "network namespace \(name)", errno: errno,
      remedy: isGone ? "start ovx-names.socket" : nil)
  }
}
