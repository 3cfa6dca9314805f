/// A piece of memory to send: the layout of `struct iovec`.
@unsafe package struct Vector {
  package var base: UnsafeRawPointer?
  package var count: Int
}

/// One thing to hand to the kernel: a frame for a device, or a train of datagrams for a remote VTEP.
///
/// A frame's first vector is its 10-byte virtio-net header, which lies in `offload` below.
/// A train is sent with `UDP_SEGMENT` where `segmentSize` is not 0, else as one datagram.
package struct Transmission {
  package enum Kind: UInt8 {
    case frame
    case datagrams
  }

  package var offload: Offload
  package var kind: Kind
  /// The port to charge with a failure, and for a frame the port to send it to.
  package var port: PortID
  /// For datagrams: the socket to send with.
  package var path: PathID
  package var firstVector: UInt32
  package var vectorCount: UInt32
  /// For datagrams: bytes of each but the last, 0 for a single one.
  package var segmentSize: UInt16
  /// For datagrams: how many frames they carry, to count a failure in.
  package var frameCount: UInt16
  /// Bytes in all vectors together, a virtio-net header not counted.
  package var byteCount: UInt32
}
