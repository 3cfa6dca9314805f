private import Glibc
internal import SystemPackage

/// A watch of some tables, at the client's end: what the daemon tells, one event after the other.
///
/// The connection is closed with it.
package struct WatchConnection: ~Copyable {
  /// Bytes of one event at most: what a row may hold, twice, with each character escaped.
  private static let lineLimit = MessageDecoder<Response>.byteLimit

  private let connection: FileDescriptor
  private let socketPath: FilePath
  private var decoder = MessageDecoder<WatchEvent>(limit: lineLimit)
  private var isEnded = false

  fileprivate init(_ connection: FileDescriptor, _ rest: [UInt8], socketPath: FilePath) {
    self.connection = connection
    self.socketPath = socketPath
    decoder.append(rest)
  }

  deinit { try? connection.close() }

  /// Waits for the next event.
  ///
  /// - Parameter milliseconds: How long to wait for it; `nil` for as long as it takes.
  /// - Returns: The event; `nil` where none comes within the time.
  /// - Throws: `.unavailable` where the daemon has ended the watch, or ended itself.
  package mutating func next(within milliseconds: Int32? = nil) throws(ControlError) -> WatchEvent?
  {
    var isWaiting = true
    while true {
      if let event = try decoder.next() { return event }
      guard !isEnded else {
        throw ControlError(
          "the daemon on \(socketPath) has ended the watch; it has stopped, or was restarted",
          kind: .unavailable)
      }
      guard try receive() == false else { continue }
      guard isWaiting else { return nil }
      var entry = pollfd(fd: connection.rawValue, events: Int16(POLLIN), revents: 0)
      _ = unsafe poll(&entry, 1, milliseconds ?? -1)
      isWaiting = milliseconds == nil
    }
  }

  /// Reads what has come; `false` where nothing has.
  private mutating func receive() throws(ControlError) -> Bool {
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    let count = unsafe chunk.withUnsafeMutableBytes { buffer in
      unsafe recv(connection.rawValue, buffer.baseAddress, buffer.count, 0)
    }
    if count > 0 { decoder.append(chunk[..<count]) }
    if count < 0, errno == EAGAIN || errno == EINTR { return false }
    isEnded = count <= 0
    return true
  }
}

extension ControlClient {
  /// Watches tables of the daemon.
  ///
  ///     var watch = try client.watch([.interface])
  ///     while let event = try watch.next() { … }
  ///
  /// - Parameters:
  ///   - tables: Which; `WatchedTable.usual` where none is named.
  ///   - interval: Milliseconds between two looks at the counters, where those are among them.
  ///   - timeout: Seconds within which the daemon is to answer.
  /// - Returns: The watch, to be read from its snapshot on.
  /// - Throws: `.unavailable` where no daemon answers, and what it refuses.
  package func watch(
    _ tables: [WatchedTable], interval: Int = 1000, timeout: Double = 10
  ) throws(ControlError) -> WatchConnection {
    let request = Request(
      commands: [.watch(tables: tables, interval: interval)], timeout: timeout)
    let (response, rest, connection) = try open(request)
    if case .failed(let error) = response.outcome {
      try? connection.close()
      throw error
    }
    return WatchConnection(connection, rest, socketPath: socketPath)
  }
}
