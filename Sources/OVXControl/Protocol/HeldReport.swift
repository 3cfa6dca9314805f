private import Glibc
private import SystemPackage

/// A connection to the daemon on which something was told that holds for as long as the connection
/// lasts.
///
/// It is closed with this.
package struct HeldReport: ~Copyable {
  private let connection: FileDescriptor

  fileprivate init(_ connection: FileDescriptor) { self.connection = connection }

  deinit { try? connection.close() }

  /// Whether the daemon has closed it, and so forgotten what it was told.
  package var hasEnded: Bool {
    var entry = pollfd(fd: connection.rawValue, events: Int16(POLLIN), revents: 0)
    return unsafe poll(&entry, 1, 0) != 0
  }
}

extension ControlClient {
  /// Tells the daemon how gateways are, in place of what it was told before.
  ///
  /// - Parameters:
  ///   - report: All that is to be told.
  ///   - timeout: Seconds that the daemon has for an answer.
  /// - Returns: What the report lasts as long as.
  /// - Throws: `.unavailable` where no daemon answers, and what it refuses.
  package func hold(
    _ report: GatewayReport, timeout: Double
  ) throws(ControlError) -> HeldReport {
    let request = Request(commands: [.gateways(report.bounded)], timeout: timeout)
    let (response, _, connection) = try open(request)
    let held = HeldReport(connection)
    if case .failed(let error) = response.outcome { throw error }
    return held
  }
}
