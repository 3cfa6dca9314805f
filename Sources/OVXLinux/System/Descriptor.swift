private import Glibc
internal import SystemPackage

/// A file descriptor with one owner; closed when the owner lets go of it.
package struct Descriptor: ~Copyable, Sendable {
  /// The number, valid for as long as the owner lives; whoever borrows it must not close it.
  package let rawValue: Int32

  /// Takes ownership of an open descriptor.
  package init(owning rawValue: Int32) {
    self.rawValue = rawValue
  }

  /// Gives up ownership: the caller has to see to it that the number is closed.
  package consuming func release() -> Int32 {
    let number = rawValue
    discard self
    return number
  }

  deinit {
    // Whatever close(2) answers, the number is free afterwards on Linux; repeating it would close
    // somebody else's.
    _ = close(rawValue)
  }
}

extension Descriptor {
  /// Sets a socket option whose value is an `int`.
  borrowing func setOption(_ level: Int32, _ name: Int32, _ value: Int32) -> Errno? {
    var value = value
    let size = socklen_t(MemoryLayout<Int32>.size)
    guard unsafe setsockopt(rawValue, level, name, &value, size) == 0 else { return .latest }
    return nil
  }
}

extension Errno {
  /// The calling thread's `errno`.
  static var latest: Errno { Errno(rawValue: Glibc.errno) }
}
