private import CLinux
private import SystemPackage

// The namespace in which a veth's other end is. The kernel names it by a number
// (`IFLA_LINK_NETNSID`) by which a device there can be looked at and not be changed, so it is found
// among those that have a name or a process, and entered.

extension Netlink {
  /// Finds the other end of a veth, and the namespace in which it is.
  ///
  /// - Parameter link: A device of this socket's namespace, which is the calling thread's.
  /// - Returns: The other end, and its namespace; `nil` for any other device, and where that
  ///   namespace has neither a name nor a process that this host shows.
  /// - Throws: What the kernel refuses, such as to enter the namespace.
  package mutating func otherEnd(
    of link: Link
  ) throws(LinuxError) -> (link: Link, namespace: NetworkNamespace)? {
    guard link.kind == "veth", let index = link.peer else { return nil }
    let namespace: NetworkNamespace
    if let number = link.peerNamespace {
      guard let found = try self.namespace(number) else { return nil }
      namespace = found
    } else {
      namespace = try .current()
    }
    var netlink = try Netlink(in: namespace)
    guard let end = try netlink.link(index: index), end.kind == "veth", end.peer == link.index
    else { return nil }
    return (end, namespace)
  }

  /// The namespace for which this one has a number.
  private mutating func namespace(_ number: Int32) throws(LinuxError) -> NetworkNamespace? {
    try NetworkNamespace.firstOccupied { namespace throws(LinuxError) in
      try self.number(of: namespace) == number
    }
  }
}
