internal import CLinux
internal import Glibc
private import Synchronization
package import SystemPackage

/// Starts a thread that gets no signals, which are the business of the main thread, but SIGSYS:
/// that tells a thread of its own call, and would end the process where it is blocked.
///
/// - Parameters:
///   - stackSize: Bytes of its stack; `nil` for as many as the main thread may have.
///   - body: What it does; with that it ends.
/// - Returns: The thread, to be joined.
/// - Throws: What the kernel says where it gives no more threads.
func startThread(
  stackSize: Int? = nil, _ body: @escaping @Sendable () -> Void
) throws(Errno) -> pthread_t {
  var thread = pthread_t()
  let attributes = UnsafeMutablePointer<pthread_attr_t>.allocate(capacity: 1)
  _ = unsafe pthread_attr_init(attributes)
  defer {
    _ = unsafe pthread_attr_destroy(attributes)
    unsafe attributes.deallocate()
  }
  if let stackSize { _ = unsafe pthread_attr_setstacksize(attributes, stackSize) }
  // A new thread blocks what the one blocks that makes it.
  var all = sigset_t()
  var previous = sigset_t()
  _ = unsafe sigfillset(&all)
  _ = unsafe sigdelset(&all, SIGSYS)
  _ = unsafe pthread_sigmask(SIG_SETMASK, &all, &previous)
  let context = unsafe Unmanaged.passRetained(Run(body))
  let code = unsafe pthread_create(
    &thread, attributes,
    { context in
      guard let context = unsafe context else { return nil }
      unsafe Unmanaged<Run>.fromOpaque(context).takeRetainedValue().body()
      return nil
    }, context.toOpaque())
  _ = unsafe pthread_sigmask(SIG_SETMASK, &previous, nil)
  guard code == 0 else {
    unsafe context.release()
    throw Errno(rawValue: code)
  }
  return thread
}

/// Starts a thread that nobody waits for.
///
/// - Parameters:
///   - stackSize: Bytes of its stack.
///   - body: What it does.
/// - Throws: What the kernel says where it gives no more threads.
package func startDetachedThread(
  stackSize: Int, _ body: @escaping @Sendable () -> Void
) throws(Errno) {
  _ = pthread_detach(try startThread(stackSize: stackSize, body))
}

/// What a thread does, in a form that C can hand over.
private final class Run: Sendable {
  let body: @Sendable () -> Void
  init(_ body: @escaping @Sendable () -> Void) { self.body = body }
}

/// Does something with each element, on several threads at once, and returns when all is done.
///
/// For system calls that wait for the kernel rather than work: to remove a network device takes it
/// some ten milliseconds, and to remove fifty at the same time no longer than that.
///
/// - Parameters:
///   - elements: What to do it with; each is let go of when it was its turn.
///   - threads: Threads at most, the caller's among them. Fewer where the kernel gives no more.
///   - body: What to do.
package func forEachConcurrently<Element: Sendable>(
  _ elements: consuming [Element], threads: Int, _ body: @escaping @Sendable (Element) -> Void
) {
  let helpers = min(threads, elements.count) - 1
  let left = Left(elements)
  let run: @Sendable () -> Void = { while let element = left.next() { body(element) } }
  var running: [pthread_t] = []
  while running.count < helpers, let thread = try? startThread(run) { running.append(thread) }
  run()
  for thread in running { _ = pthread_join(thread, nil) }
}

/// The elements that no thread has taken yet.
private final class Left<Element: Sendable>: Sendable {
  private let elements: Mutex<[Element]>
  init(_ elements: [Element]) { self.elements = Mutex(elements) }
  func next() -> Element? { elements.withLock { $0.popLast() } }
}
