private import CLinux
private import Glibc

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
  /// The number by which this namespace knows another one (`IFLA_LINK_NETNSID`); `nil` where it has none.
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
  /// The speed of a device of the calling thread's namespace in bits per second; `nil` where it has none.
  package var speed: Int? {
    let megabits = unsafe ovx_link_speed(name)
    return megabits >= 0 ? megabits * 1_000_000 : nil
  }
}
