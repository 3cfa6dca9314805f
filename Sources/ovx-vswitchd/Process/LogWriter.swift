private import CLinux
private import Glibc
private import OVXLinux
private import Synchronization
internal import SystemPackage

/// Writes lines to a descriptor on a thread of its own, so that whoever has something to tell never
/// waits.
///
/// A pipe whose reader has stopped, a terminal that is held, a disk that does not answer: only this
/// thread waits for them. Lines that find no room meanwhile are lost and counted, and so are those
/// that cannot be written; how many they were is told as soon as there is room again.
final class LogWriter: Sendable {
  /// Bytes of lines that wait to be written, at most.
  static let limit = 256 << 10
  /// Bytes that the thread's stack has: it calls nothing deep.
  private static let stackSize = 256 << 10

  private enum Item {
    case line([UInt8])
    /// From here on another file takes its place, and the former one is closed.
    case file(FileDescriptor)
  }

  private struct State {
    var items: [Item] = []
    /// Bytes of lines that have not been written, those under way among them.
    var byteCount = 0
    /// Lines lost since it was last told.
    var lost = 0
    var isBusy = false
  }

  private let state = Mutex(State())
  /// Raised when there is something to write.
  private let event: Int32
  private let lossLine: @Sendable (_ count: Int) -> [UInt8]

  /// Starts the thread.
  ///
  /// - Parameters:
  ///   - file: Where to write; stays open.
  ///   - lossLine: The line that tells how many were lost.
  /// - Throws: What the kernel says where it gives no thread or no descriptor.
  init(
    to file: FileDescriptor, lossLine: @escaping @Sendable (_ count: Int) -> [UInt8]
  ) throws(Errno) {
    self.lossLine = lossLine
    event = ovx_event_open()
    guard event >= 0 else { throw Errno(rawValue: 0 &- event) }
    try startDetachedThread(stackSize: Self.stackSize) { [self] in run(file) }
  }

  /// Has a line written, its newline included, or counts it as lost.
  func write(_ line: [UInt8]) {
    state.withLock { state in
      guard state.byteCount + line.count <= Self.limit else {
        state.lost += 1
        return
      }
      state.byteCount += line.count
      state.items.append(.line(line))
    }
    ovx_event_raise(event)
  }

  /// Has everything from here on written to another file, which becomes the writer's to close.
  func change(to file: FileDescriptor) {
    let replaced = state.withLock { state -> FileDescriptor? in
      // While the thread cannot go on, one file waits at most.
      if let index = state.items.lastIndex(where: { if case .file = $0 { true } else { false } }),
        case .file(let former) = state.items[index]
      {
        state.items[index] = .file(file)
        return former
      }
      state.items.append(.file(file))
      return nil
    }
    try? replaced?.close()
    ovx_event_raise(event)
  }

  /// Waits until everything has been written, but not longer than it is given.
  func flush(within limit: Duration) {
    let end = ContinuousClock.now + limit
    while state.withLock({ $0.isBusy || !$0.items.isEmpty }), ContinuousClock.now < end {
      usleep(500)
    }
  }

  // MARK: The thread

  private func run(_ first: FileDescriptor) {
    unsafe ovx_name_thread("ovx-log")
    var file = first
    var isFirst = true
    var isMidLine = false
    while true {
      let items = state.withLock { state in
        let items = state.items
        state.items = []
        state.isBusy = !items.isEmpty
        return items
      }
      guard !items.isEmpty else {
        wait(for: event, POLLIN)
        ovx_event_lower(event)
        continue
      }
      for item in items {
        switch item {
        case .file(let next):
          if !isFirst { try? file.close() }
          (file, isFirst, isMidLine) = (next, false, false)
        case .line(let line):
          let isWritten = put(line, to: file, &isMidLine)
          state.withLock { state in
            state.byteCount -= line.count
            if !isWritten { state.lost += 1 }
          }
        }
      }
      tellLoss(to: file, &isMidLine)
    }
  }

  private func tellLoss(to file: FileDescriptor, _ isMidLine: inout Bool) {
    let lost = state.withLock { state in
      let lost = state.lost
      state.lost = 0
      return lost
    }
    guard lost > 0, !put(lossLine(lost), to: file, &isMidLine) else { return }
    state.withLock { $0.lost += lost }
  }

  /// Writes a whole line, however long that takes; `false` where the file takes no more.
  private func put(_ line: [UInt8], to file: FileDescriptor, _ isMidLine: inout Bool) -> Bool {
    // What was cut off is not to be read as the beginning of this one.
    let bytes = isMidLine ? [UInt8(ascii: "\n")] + line : line
    var sent = 0
    while sent < bytes.count {
      let count = unsafe bytes[sent...].withUnsafeBytes { rest in
        unsafe Glibc.write(file.rawValue, rest.baseAddress, rest.count)
      }
      if count > 0 {
        sent += count
      } else if count < 0, errno == EAGAIN {
        wait(for: file.rawValue, POLLOUT)
      } else if count == 0 || errno != EINTR {
        if sent > 0 { isMidLine = true }
        return false
      }
    }
    isMidLine = false
    return true
  }

  private func wait(for descriptor: Int32, _ events: Int32) {
    var entry = pollfd(fd: descriptor, events: Int16(events), revents: 0)
    _ = unsafe poll(&entry, 1, -1)
  }
}
