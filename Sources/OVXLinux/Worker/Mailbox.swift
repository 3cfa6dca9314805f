private import CLinux
private import Synchronization
internal import SystemPackage

/// The way back from the worker to the control side: a queue of what it noticed, and a descriptor
/// to poll.
///
/// It is bounded by what there is to tell: nothing is queued twice, and a path's MTU is told once
/// per second.
final class EventQueue: Sendable {
  private struct State {
    var queued: [Switch.Event] = []
    var known: Set<Switch.Event> = []
  }

  private let state = Mutex(State())
  private let signal: Descriptor

  init() throws(LinuxError) {
    signal = try .event()
  }

  /// Readable while there are events.
  var descriptor: Int32 { signal.rawValue }

  func post(_ event: Switch.Event) {
    let isNew = state.withLock { state in
      guard state.known.insert(event).inserted else { return false }
      state.queued.append(event)
      return true
    }
    if isNew { signal.raise() }
  }

  func takeAll() -> [Switch.Event] {
    state.withLock { state in
      signal.lower()
      defer { state = State() }
      return state.queued
    }
  }
}

/// The way from the control side to the worker: commands to be carried out between two bursts.
///
/// It is bounded by the number of threads, since each of them waits until its command was carried
/// out.
final class Mailbox: Sendable {
  typealias Command = @Sendable (inout Worker) -> Void

  private struct State {
    var commands: [Command] = []
    var isClosed = false
  }

  private let state = Mutex(State())
  private let signal: Descriptor

  init() throws(LinuxError) {
    signal = try .event()
  }

  /// Readable while there are commands.
  var descriptor: Int32 { signal.rawValue }

  /// Leaves a command for the worker; `false` where there is none any more.
  func post(_ command: @escaping Command) -> Bool {
    let isOpen = state.withLock { state in
      if !state.isClosed { state.commands.append(command) }
      return !state.isClosed
    }
    if isOpen { signal.raise() }
    return isOpen
  }

  func takeAll() -> [Command] {
    state.withLock { state in
      signal.lower()
      defer { state.commands = [] }
      return state.commands
    }
  }

  /// Takes no further commands if there are none left; `false` if there are.
  func closeIfEmpty() -> Bool {
    state.withLock { state in
      state.isClosed = state.commands.isEmpty
      return state.isClosed
    }
  }
}

extension Descriptor {
  /// Makes an event counter: readable while it has been raised and not lowered.
  static func event() throws(LinuxError) -> Descriptor {
    let number = ovx_event_open()
    guard number >= 0 else {
      throw LinuxError(
        action: "make",
        subject: "an eventfd",
        errno: Errno(rawValue: -number),
        remedy: "raise the limit of open files (LimitNOFILE= of the service)"
      )
    }
    return Descriptor(owning: number)
  }

  borrowing func raise() { ovx_event_raise(rawValue) }

  borrowing func lower() { ovx_event_lower(rawValue) }
}
