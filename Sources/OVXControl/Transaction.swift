/// What the daemon knows of the host and the configuration does not say.
package struct LiveState {
  /// Whether the host has a network device of this name.
  package var deviceExists: (String) -> Bool
  /// What the kernel and the switch say of a configured interface; `nil` for an unknown one.
  package var interface: (String) -> InterfaceState?

  package init(
    deviceExists: @escaping (String) -> Bool,
    interface: @escaping (String) -> InterfaceState? = { _ in nil }
  ) {
    self.deviceExists = deviceExists
    self.interface = interface
  }
}

/// The read-only columns of an interface.
package struct InterfaceState: Equatable, Sendable {
  package var ifindex: Int?
  package var macInUse: String?
  package var mtu: Int?
  package var isAdministrativelyUp: Bool?
  package var hasCarrier: Bool?
  /// Why the interface is not in service, a sentence.
  package var error: String?
  package var status: [String: String] = [:]
  package var statistics: [String: UInt64] = [:]

  package init() {}
}

/// Commands carried out on a configuration, all of them or none.
package struct Transaction {
  /// One per command; `nil` for a question or an order to the running switch, which the daemon answers once the
  /// configuration is in force.
  package var replies: [Reply?] = []
  /// Sentences for the operator about what was accepted, but not quite as typed.
  package var notes: [String] = []

  /// Carries out commands in order, then settles the types of interfaces and validates the result.
  ///
  /// - Parameters:
  ///   - commands: At least one.
  ///   - configuration: Changed where all is well, untouched where an error is thrown.
  ///   - live: The host as it is.
  /// - Returns: The replies, and what the operator should know.
  /// - Throws: The first thing that is wrong, in words.
  package static func execute(
    _ commands: [Command],
    on configuration: inout Configuration,
    live: LiveState
  ) throws(ControlError) -> Transaction {
    throw ControlError("not yet")
  }
}
