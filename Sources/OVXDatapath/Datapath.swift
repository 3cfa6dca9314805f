/// The switch itself: frames in, frames out, no file descriptor and no clock.
///
/// A worker owns one. It hands in what it received, burst by burst, and the datapath hands back what is to be sent by
/// calling `flush`, at the latest in `endBurst()`. Frames stay where they were received: their memory belongs to the
/// burst, is the datapath's from the `receive` call on, and is the worker's again once what refers to it was flushed.
package struct Datapath: ~Copyable {
  /// Takes the transmissions, in order, and the vectors they refer to. Both are valid, and the memory that the vectors
  /// point at is unchanged, until it returns or until the next `receive` call, whichever is later.
  package typealias Flush =
    (UnsafeBufferPointer<Transmission>, UnsafePointer<Vector>) -> Void

  package init(flush: @escaping Flush) {
  }

  /// Swaps in a new topology. Addresses learned on ports that are gone, or no longer in their VLAN, are forgotten.
  package mutating func apply(_ topology: Topology) {
  }

  /// Forwards one frame from a device port.
  ///
  /// - Parameters:
  ///   - frame: The Ethernet header. At least 64 bytes in front of it are the datapath's to write to.
  ///   - count: The frame's length in bytes, any value.
  ///   - capacity: Bytes from `frame` on that are the datapath's to write to, at least `count`.
  ///   - offload: What the kernel handed over with the frame; not trusted.
  ///   - tag: A VLAN tag that the kernel took out of the frame.
  ///   - port: Where it came in.
  package mutating func receiveFrame(
    _ frame: UnsafeMutableRawPointer, count: Int, capacity: Int, offload: Offload, tag: VLANTag,
    from port: PortID
  ) {
  }

  /// Decapsulates and forwards a train of datagrams that one VTEP sent, as `UDP_GRO` hands it over.
  ///
  /// - Parameters:
  ///   - train: The first datagram's VXLAN header. At least 64 bytes in front of it are the datapath's to write to.
  ///   - count: The bytes of all datagrams together.
  ///   - capacity: Bytes from `train` on that are the datapath's to write to, at least `count`.
  ///   - segmentSize: The bytes of each datagram but the last; 0 or `count` for a single one.
  ///   - endpoint: The socket it came in by.
  ///   - remote: The VTEP that sent it.
  package mutating func receiveDatagrams(
    _ train: UnsafeMutableRawPointer, count: Int, capacity: Int, segmentSize: Int,
    on endpoint: EndpointID, from remote: IPAddress
  ) {
  }

  /// Flushes what the burst left to be sent.
  package mutating func endBurst() {
  }

  /// Tells the time, in seconds from any fixed point, once a second or so; addresses age by it.
  package mutating func tick(now: UInt32) {
  }

  /// Charges frames that the kernel did not take to the port they were to leave by.
  package mutating func countFailure(_ reason: DropReason, port: PortID, frames: Int) {
  }

  /// Charges a frame that could not be received to the port it came in by.
  package mutating func countDrop(_ reason: DropReason, port: PortID, frames: Int) {
  }

  /// What a port has carried since it was made; zeros for an unknown one.
  package func counters(of port: PortID) -> PortCounters {
    PortCounters()
  }

  /// Frames that died before they could be charged to a port: datagrams of no tunnel, by reason.
  package var endpointDrops: [UInt64] { [] }

  /// The addresses that a bridge knows.
  package func addresses(of bridge: BridgeID) -> [KnownAddress] {
    []
  }

  /// Forgets the learned addresses of a bridge; static ones stay.
  package mutating func flushAddresses(of bridge: BridgeID) -> Int {
    0
  }

  /// Adds a static address, in place of whatever was known of it. `false` where the table is full.
  package mutating func addStaticAddress(
    _ address: MACAddress, vlan: VLANID, on port: PortID, bridge: BridgeID
  ) -> Bool {
    false
  }

  /// Removes an address, learned or static. `false` where it is not known.
  package mutating func removeAddress(
    _ address: MACAddress, vlan: VLANID, bridge: BridgeID
  ) -> Bool {
    false
  }

  /// What has happened to a bridge's table since the bridge was made.
  package func addressStatistics(of bridge: BridgeID) -> AddressStatistics {
    AddressStatistics()
  }
}

/// One line of a bridge's address table.
package struct KnownAddress: Equatable, Sendable {
  package var address: MACAddress
  package var vlan: VLANID
  package var port: PortID
  /// The remote VTEP behind which the address is, for a tunnel port.
  package var peer: PeerID
  /// Seconds since it was last seen; `nil` for a static one.
  package var age: UInt32?
}

/// Events in a bridge's address table, counted, and its size.
package struct AddressStatistics: Equatable, Sendable {
  package var current = 0
  package var limit = 0
  package var statics = 0
  package var learned: UInt64 = 0
  package var expired: UInt64 = 0
  package var evicted: UInt64 = 0
  package var moved: UInt64 = 0

  package init() {}
}
