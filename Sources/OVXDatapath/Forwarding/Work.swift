/// What things cost a worker, in nanoseconds, roughly: not to tell the time by, but to share it
/// fairly.
///
/// Measured on one machine, system calls in batches of 64 included. What counts is how they
/// compare: a datagram that has to be sent by itself costs as much as thirty that join a train.
package enum Work {
  /// A read.
  package static let read: Int64 = 600
  /// Deciding on one frame, of several that a read may bring.
  static let decision: Int64 = 100
  /// Each kilobyte that is read, or handed to a device.
  package static let kilobyte: Int64 = 32
  /// A write to a device.
  static let frame: Int64 = 1000
  /// A send by an underlay's socket.
  static let datagrams: Int64 = 3000
  /// One more frame in a train, which is copied there.
  static let joined: Int64 = 100
  /// Each kilobyte of datagrams, which the kernel copies and cuts.
  static let kilobyteOfDatagrams: Int64 = 64
}

extension Datapath {
  /// What all that was decided and sent so far has cost, by `Work`; only differences mean
  /// something.
  package var work: Int64 { egress.work &+ frameCount &* Work.decision }
}
