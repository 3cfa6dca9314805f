/// What the daemon knows of the host and the configuration does not say, for one request.
package struct LiveState {
  /// Whether the host has a network device of this name.
  package var deviceExists: (String) -> Bool
  /// What the kernel and the switch say of a configured interface; `nil` for an unknown one.
  ///
  /// They are asked once: the answer is the same for all columns, and frames wait for it.
  package let interface: (String) -> InterfaceState?
  /// How many remote VTEPs an agent has told of a network, by its name; `nil` where that is not for
  /// one to say.
  package var toldRemotes: (String) -> Int?
  /// What is known of a network's gateway on this host, by the network's name; `nil` where there is
  /// to be none.
  package var gateway: (String) -> GatewayState?
  /// The ports that were attached to containers that are gone for good.
  package var goneAttachments: () -> [String]
  /// What is known of addresses that somebody is to be given: a state for each, in their order.
  ///
  /// The workers are asked once for all of them.
  package var addressStates: ([AddressQuestion]) -> [AddressState]

  /// What the host has on one of its devices, which moves to a bridge's own device with it.
  ///
  /// Throws what cannot move, in words.
  package var place: (String) throws(ControlError) -> HostPlace

  package init(
    deviceExists: @escaping (String) -> Bool,
    interface: @escaping (String) -> InterfaceState? = { _ in nil },
    toldRemotes: @escaping (String) -> Int? = { _ in nil },
    gateway: @escaping (String) -> GatewayState? = { _ in nil },
    goneAttachments: @escaping () -> [String] = { [] },
    addressStates: @escaping ([AddressQuestion]) -> [AddressState] = { $0.map { _ in .free } },
    place: @escaping (String) throws(ControlError) -> HostPlace = { _ in HostPlace() }
  ) {
    self.place = place
    self.addressStates = addressStates
    self.deviceExists = deviceExists
    self.toldRemotes = toldRemotes
    self.gateway = gateway
    self.goneAttachments = goneAttachments
    var known: [String: InterfaceState?] = [:]
    self.interface = { name in
      if let state = known[name] { return state }
      let state = interface(name)
      known[name] = .some(state)
      return state
    }
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
  /// Bits per second, as the device's driver says.
  package var linkSpeed: Int?
  /// The port's number: 65534 for a bridge's own, -1 for one that is not in service.
  package var ofport: Int?

  package init() {}
}
