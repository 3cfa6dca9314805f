package import OVXDatapath
package import SystemPackage

/// A running switch: one worker thread with its ring and its `Datapath`, and the handle to command it by.
///
/// Commands are carried out between two bursts, in the order they were given, and each call returns when its command
/// is in force. All of it may be called from any thread but the worker's own.
package final class Switch: Sendable {
  /// Starts the worker.
  ///
  /// - Throws: Where the kernel refuses a ring or memory, with the likely cause and the remedy.
  package init() throws(LinuxError) {
  }

  /// Attaches a TAP device as a port; the worker owns it from now on, and closes it also where this throws.
  ///
  /// What was attached as that port before is detached first.
  package func attach(_ device: consuming TAP, as port: PortID) throws(LinuxError) {
  }

  /// Attaches an existing interface as a port; as above.
  package func attach(_ device: consuming PacketSocket, as port: PortID) throws(LinuxError) {
  }

  /// Detaches and closes the device of a port.
  ///
  /// Its number may be used again afterwards. Does nothing where there is none.
  package func detach(_ port: PortID) {
  }

  /// Receives datagrams by a listening socket, which the worker owns from now on.
  package func open(_ endpoint: EndpointID, socket: consuming UDPSocket) throws(LinuxError) {
  }

  /// Closes a listening socket; does nothing where there is none.
  package func close(_ endpoint: EndpointID) {
  }

  /// Sends by a connected socket, which the worker owns from now on.
  package func open(_ path: PathID, socket: consuming UDPSocket) throws(LinuxError) {
  }

  /// Closes a sending socket; does nothing where there is none.
  package func close(_ path: PathID) {
  }

  /// Swaps in a topology.
  ///
  /// Devices and sockets that it refers to are to be attached before, those that it does not refer
  /// to any more to be detached after.
  package func apply(_ topology: Topology) {
  }

  /// The largest IP packet that the path of a sending socket takes now, in bytes; `nil` where there is no such socket.
  package func pathMTU(of path: PathID) -> Int? { nil }

  /// Runs something on the datapath between two bursts and returns what it returned.
  package func perform<Answer: Sendable>(
    _ work: @escaping @Sendable (inout Datapath) -> Answer
  ) -> Answer {
    var datapath = unsafe Datapath(flush: { _, _ in })
    return work(&datapath)
  }

  /// Something that the worker noticed and the control side should know.
  package enum Event: Equatable, Sendable {
    /// The device of a port is gone or broken: it is not read any more. It stays attached until `detach`.
    case deviceLost(PortID, Errno)
    /// The device of a port went down; it is read again by itself when it comes up.
    case deviceDown(PortID)
    /// A train was larger than the path's MTU: ask `pathMTU(of:)` again. At most one per path and second.
    case pathNarrowed(PathID)
    /// The worker has stopped because the ring failed.
    case workerFailed(LinuxError)
  }

  /// Readable (poll it for `POLLIN`) while there are events; belongs to the switch.
  package var eventDescriptor: Int32 { -1 }

  /// Takes the events there are, oldest first, and makes the descriptor unreadable.
  package func takeEvents() -> [Event] { [] }

  /// Stops the worker and closes everything it owns.
  ///
  /// Further commands have no effect.
  package func stop() {
  }
}
