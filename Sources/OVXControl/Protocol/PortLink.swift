package import OVXDatapath

/// Who is at the other end of a port: a line of `ovx-ctl show --links`.
package struct PortLink: Codable, Equatable, Sendable {
  package var bridge: String
  package var port: String
  /// The number of the port's device on the host; absent where the device is the other end itself,
  /// or there is none.
  package var index: Int32?
  /// The name of the other end: of a veth its peer, of an attached interface that inside, of an
  /// internal one the host's.
  package var peer: String?
  /// The number of the other end in its namespace.
  package var peerIndex: Int32?
  /// The network namespace of the other end; the members are absent for the switch's own.
  package var namespace: Namespace?
  /// The addresses of the other end.
  package var addresses: [InterfaceAddress]
  /// The remote VTEPs of a tunnel.
  package var remotes: [IPAddress]

  /// A namespace, by whatever it can be told from others.
  package struct Namespace: Codable, Equatable, Sendable {
    /// What `ip netns` calls it.
    package var name: String?
    /// A process in it.
    package var pid: Int32?
    /// The container that the process is in: its id, or the name by which it was attached.
    package var container: String?

    package init(name: String? = nil, pid: Int32? = nil, container: String? = nil) {
      self.name = name
      self.pid = pid
      self.container = container
    }
  }

  package init(bridge: String, port: String) {
    self.bridge = bridge
    self.port = port
    addresses = []
    remotes = []
  }
}
