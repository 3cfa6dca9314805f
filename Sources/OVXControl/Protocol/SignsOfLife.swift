package import OVXDatapath

/// What has come from a remote VTEP: how an agent finds out whether a host of which nobody tells
/// any more is still there.
///
/// Numbers mean nothing by themselves. A sign has come between two answers where they have another
/// number.
package struct SignsOfLife: Codable, Equatable, Sendable {
  /// VTEPs in one question at most.
  package static let limit = 1024

  package var vtep: IPAddress
  /// Counts times that frames came from it, in whatever network, by the switch or by its fast path.
  package var frames: UInt64
  /// Counts answers to echo requests, of which each question has one sent.
  package var echoes: UInt64

  package init(vtep: IPAddress, frames: UInt64 = 0, echoes: UInt64 = 0) {
    self.vtep = vtep
    self.frames = frames
    self.echoes = echoes
  }
}
