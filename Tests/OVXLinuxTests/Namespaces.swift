private import Dispatch
private import Foundation
private import Glibc
internal import OVXDatapath
internal import OVXLinux
private import Synchronization
import Testing

/// Whether the tests may make network namespaces, which takes root.
let isRoot = geteuid() == 0

/// Runs `ip` inside a namespace and returns what it prints: a second opinion on what the library
/// did.
@discardableResult
func ip(_ arguments: String..., in namespace: NetworkNamespace) throws -> String {
  try namespace.perform { () throws(LinuxError) in
    let output = try run("/sbin/ip", arguments, until: .now + .seconds(10))
    #expect(output.status == 0, "ip \(arguments): \(output.errors)")
    return output.output
  }
}

extension NetworkNamespace {
  /// A netlink socket of the namespace.
  func netlink() throws(LinuxError) -> Netlink {
    try perform { () throws(LinuxError) in try Netlink() }
  }
}

extension Netlink {
  /// A device that the test has made and that must be there.
  mutating func existing(_ name: String) throws -> Link {
    try #require(try link(named: name))
  }
}

private let namesGiven = Atomic(0)

/// Lends a namespace with a name, and deletes it whatever happens.
func withNamedNamespace(_ body: (String) throws -> Void) throws {
  let number = namesGiven.wrappingAdd(1, ordering: .relaxed).newValue
  let name = "ovxnl-\(getpid())-\(number)"
  let made = try run("/sbin/ip", ["netns", "add", name], until: .now + .seconds(10))
  try #require(made.status == 0, "\(made.errors)")
  defer { _ = try? run("/sbin/ip", ["netns", "delete", name], until: .now + .seconds(10)) }
  try body(name)
}

/// Lends a directory, and deletes it whatever happens.
func withTemporaryDirectory(_ body: (String) throws -> Void) throws {
  let url = FileManager.default.temporaryDirectory.appending(path: "ovxnl-\(UUID())")
  try FileManager.default.createDirectory(at: url, withIntermediateDirectories: false)
  defer { try? FileManager.default.removeItem(at: url) }
  try body(url.path)
}

/// What a failing call says.
func message(of body: () throws(LinuxError) -> Void) throws -> LinuxError {
  do throws(LinuxError) {
    try body()
  } catch {
    return error
  }
  Issue.record("nothing was thrown")
  throw CancellationError()
}

func v4(_ a: UInt32, _ b: UInt32, _ c: UInt32, _ d: UInt32) -> IPAddress {
  IPAddress(v4: a << 24 | b << 16 | c << 8 | d)
}

/// fd00::N.
func v6(_ last: UInt64) -> IPAddress { IPAddress(v6High: 0xFD00 << 48, low: last) }

/// A thread of a test's own, which may block as long as it likes.
final class Background: Sendable {
  private let end = DispatchSemaphore(value: 0)

  init(_ body: @escaping @Sendable () throws -> Void) {
    let end = end
    Thread.detachNewThread {
      do { try body() } catch { Issue.record(error) }
      end.signal()
    }
  }

  /// Waits for its end.
  func join() { end.wait() }
}
