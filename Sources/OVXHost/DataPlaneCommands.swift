internal import OVXDatapath
internal import OVXLinux

/// What the host layer tells the data plane: which devices and sockets to use, and the topology
/// that says how.
///
/// What a topology names is opened before it is applied, and closed after another one is in force
/// that does not name it. Whatever is handed over belongs to the data plane, also where it throws.
/// `Switch` is the real one.
protocol DataPlaneCommands: AnyObject {
  /// How many queues devices should have.
  var queueCount: Int { get }

  /// How many queues the listening socket of an endpoint should have.
  func queueCount(of endpoint: ListenerID) -> Int

  /// Takes a TAP as the device of a port, in place of the one that the port has.
  func attach(_ device: consuming TAP, as port: PortID) throws(LinuxError)

  /// Takes an existing device, in place of the one that the port has.
  func attach(_ device: consuming PacketSocket, as port: PortID) throws(LinuxError)

  /// Lets go of the device of a port; its descriptors are closed with the answer, `nil` where there
  /// are none.
  @discardableResult func detach(_ port: PortID) -> Queues?

  /// Receives by a listening socket.
  func open(_ endpoint: ListenerID, socket: consuming UDPSocket) throws(LinuxError)

  /// Closes a listening socket; does nothing where there is none.
  func close(_ endpoint: ListenerID)

  /// Sends by a connected socket.
  func open(_ path: UnderlaySocketID, socket: consuming UDPSocket) throws(LinuxError)

  /// Closes a sending socket; does nothing where there is none.
  func close(_ path: UnderlaySocketID)

  /// Sends whole superframes by an injector.
  func open(_ number: InjectorID, injector: consuming Injector) throws(LinuxError)

  /// Closes an injector; does nothing where there is none.
  func close(_ number: InjectorID)

  /// Uses a fast path, or none; see `Switch.useFastPath`.
  func useFastPath(_ isOn: Bool) throws(LinuxError)

  /// How it stands with the fast path of a device; see `Switch.fastPathState`.
  func fastPathState(ofDevice index: UInt32, isUnderlay: Bool) -> FastPathState

  /// Puts a topology in force, and returns when it is.
  func apply(_ topology: Topology)

  /// Announces addresses of devices by their ports.
  func announce(_ orders: [AnnouncementOrder])

  /// Takes out which ports have lost packets for their size since this was last called.
  func takeOversizeReports() -> [OversizeReport]

  /// Takes what an agent tells of a VLAN of a bridge; see `Datapath.take`.
  ///
  /// - Returns: How many entries found no place.
  func take(_ entries: [ExternalEntry], vlan: VLANID, bridge: BridgeID) -> Int
}

/// What is to be announced by one port.
struct AnnouncementOrder: Sendable {
  var port: PortID
  var announcements: [Announcement]
  /// Whether it was announced before.
  var isRepetition: Bool
}

extension Switch: DataPlaneCommands {
  func announce(_ orders: [AnnouncementOrder]) {
    perform { datapath in
      for order in orders {
        for announcement in order.announcements {
          datapath.announce(announcement, on: order.port, isRepetition: order.isRepetition)
        }
      }
    }
  }

  func takeOversizeReports() -> [OversizeReport] {
    performOnAll { $0.takeOversizeReports() }.flatMap { $0 }
  }

  func take(_ entries: [ExternalEntry], vlan: VLANID, bridge: BridgeID) -> Int {
    performOnAll { $0.take(entries, vlan: vlan, bridge: bridge) }.max() ?? 0
  }
}
