private import Glibc
private import Synchronization

/// Does something with each element, on several threads at once, and returns when all is done.
///
/// For system calls that wait for the kernel rather than work: to remove a network device takes it some ten milliseconds,
/// and to remove fifty at the same time no longer than that.
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
  let run = Run { while let element = left.next() { body(element) } }
  var running: [pthread_t] = []
  // Signals are the business of the main thread.
  var all = sigset_t()
  var previous = sigset_t()
  _ = unsafe sigfillset(&all)
  _ = unsafe pthread_sigmask(SIG_SETMASK, &all, &previous)
  while running.count < helpers {
    var thread = pthread_t()
    let context = unsafe Unmanaged.passRetained(run)
    let code = unsafe pthread_create(
      &thread, nil,
      { context in
        guard let context = unsafe context else { return nil }
        unsafe Unmanaged<Run>.fromOpaque(context).takeRetainedValue().body()
        return nil
      }, context.toOpaque())
    guard code == 0 else {
      unsafe context.release()
      break
    }
    running.append(thread)
  }
  _ = unsafe pthread_sigmask(SIG_SETMASK, &previous, nil)
  run.body()
  for thread in running { _ = pthread_join(thread, nil) }
}

/// What each of several threads runs.
private final class Run: Sendable {
  let body: @Sendable () -> Void
  init(_ body: @escaping @Sendable () -> Void) { self.body = body }
}

/// The elements that no thread has taken yet.
private final class Left<Element: Sendable>: Sendable {
  private let elements: Mutex<[Element]>
  init(_ elements: [Element]) { self.elements = Mutex(elements) }
  func next() -> Element? { elements.withLock { $0.popLast() } }
}
