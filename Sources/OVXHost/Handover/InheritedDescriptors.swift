private import Glibc
internal import OVXControl
internal import OVXDatapath
package import OVXLinux
private import SystemPackage

/// What a former daemon had open, and this one is to use as it is: what is in the queues of devices
/// and sockets meanwhile is not lost.
///
/// Each is taken out once. One that is not what it was said to be is closed, and the device or
/// socket is opened as ever.
package final class InheritedDescriptors {
  private var numbers: [HandedDescriptor: [Int32]] = [:]

  package init() {}

  deinit { closeAll() }

  /// Adds a descriptor, which belongs to this from now on.
  ///
  /// Several of one device come in the order of its queues.
  package func add(_ number: Int32, as descriptor: HandedDescriptor) {
    numbers[descriptor, default: []].append(number)
  }

  /// Closes what nobody has taken.
  package func closeAll() {
    for number in numbers.values.joined() { _ = Descriptor(owning: number) }
    numbers = [:]
  }

  /// Takes out what is open once, such as a control socket.
  package func take(_ descriptor: HandedDescriptor) -> Descriptor? {
    guard let all = numbers.removeValue(forKey: descriptor), let first = all.first else {
      return nil
    }
    for number in all.dropFirst() { _ = Descriptor(owning: number) }
    return Descriptor(owning: first)
  }

  private func queues(_ descriptor: HandedDescriptor) -> Queues? {
    numbers.removeValue(forKey: descriptor).flatMap { Queues(owning: $0) }
  }

  /// The TAP of a port of the host.
  func tap(named name: String, isAway: Bool) -> TAP? {
    guard let queues = queues(.device(name: name, isAway: isAway)), let tap = TAP.adopt(queues)
    else { return nil }
    // A device that is in its place has the port's name there.
    guard isAway || tap.name == name else { return nil }
    return tap
  }

  /// Whether a device of the host, in its place, is among them.
  func hasDevice(named name: String) -> Bool {
    numbers[.device(name: name, isAway: false)] != nil
  }

  /// The sockets on a device of somebody else's.
  func packetSocket(on name: String) -> PacketSocket? {
    guard let queues = queues(.device(name: name, isAway: false)) else { return nil }
    return PacketSocket.adopt(queues, interface: name)
  }

  /// A TAP in a container.
  struct ContainerTAP: ~Copyable {
    let tap: TAP
    let holdsNamespace: Bool

    consuming func take() -> TAP { tap }
  }

  /// Where the TAP of a container is, which is not taken out by that; `nil` where there is none.
  func namespace(ofTAPIn interface: DesiredState.ContainerInterface) -> NetworkNamespace? {
    for holdsNamespace in [false, true] {
      let descriptor = HandedDescriptor.container(
        target: interface.target, name: interface.name, holdsNamespace: holdsNamespace)
      guard let number = numbers[descriptor]?.first else { continue }
      return try? TAP.namespace(of: number)
    }
    return nil
  }

  func tap(in interface: DesiredState.ContainerInterface) -> ContainerTAP? {
    for holdsNamespace in [false, true] {
      let descriptor = HandedDescriptor.container(
        target: interface.target, name: interface.name, holdsNamespace: holdsNamespace)
      guard let queues = queues(descriptor), let tap = TAP.adopt(queues) else { continue }
      return ContainerTAP(tap: tap, holdsNamespace: holdsNamespace)
    }
    return nil
  }

  /// The sockets that receive for an endpoint.
  func listener(at endpoint: DesiredState.Endpoint, queues count: Int) -> UDPSocket? {
    let descriptor = HandedDescriptor.listener(
      local: endpoint.local, isIPv6: endpoint.isIPv6, port: endpoint.port)
    guard numbers[descriptor]?.count == count, let queues = queues(descriptor) else { return nil }
    return UDPSocket.adopt(
      queues, local: endpoint.local, isIPv6: endpoint.isIPv6, port: endpoint.port)
  }
}
