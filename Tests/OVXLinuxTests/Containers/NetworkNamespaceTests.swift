private import Foundation
private import Glibc
private import OVXDatapath
private import OVXLinux
private import Synchronization
private import SystemPackage
import Testing

@Suite(.enabled(if: isRoot, "makes network namespaces, which takes root"))
struct NetworkNamespaceTests {
  @Test func `one namespace is the same by name, path and process`() throws {
    try withNamedNamespace { name in
      let named = try NetworkNamespace(named: name)
      let path = try NetworkNamespace(path: "/run/netns/\(name)")
      #expect(named.identity == path.identity)
      #expect(named.name == name)
      #expect(path.name == "/run/netns/\(name)")
      let own = try NetworkNamespace(pid: getpid())
      #expect(own.identity == (try NetworkNamespace.current().identity))
      #expect(own.identity != named.identity)
      let asSeenInside = try named.perform { () throws(LinuxError) in
        try NetworkNamespace.current().identity
      }
      #expect(asSeenInside == named.identity)
    }
  }

  @Test func `a namespace outlives its name while it is held`() throws {
    var held: NetworkNamespace?
    try withNamedNamespace { held = try NetworkNamespace(named: $0) }
    let namespace = try #require(held)
    var netlink = try namespace.netlink()
    #expect(try netlink.links().map(\.name) == ["lo"])
  }

  @Test func `threads work in namespaces at once and none changes its own`() throws {
    let own = try NetworkNamespace.current().identity
    let namespaces = try (0..<8).map { _ in try NetworkNamespace.anonymous() }
    #expect(Set(namespaces.map(\.identity)).count == 8)
    let threads = namespaces.enumerated().map { number, namespace in
      Background {
        for _ in 0..<50 {
          let before = try NetworkNamespace.current().identity
          let inside = try namespace.perform { () throws(LinuxError) in
            try NetworkNamespace.current().identity
          }
          #expect(before == own)
          #expect(inside == namespace.identity)
          #expect(try NetworkNamespace.current().identity == own)
        }
        var netlink = try namespace.netlink()
        try netlink.createVeth(VethEnd("only\(number)"), peer: VethEnd("peer\(number)"))
      }
    }
    for thread in threads { thread.join() }
    for (number, namespace) in namespaces.enumerated() {
      var netlink = try namespace.netlink()
      #expect(
        Set(try netlink.links().map(\.name)) == ["lo", "only\(number)", "peer\(number)"]
      )
    }
    #expect(try NetworkNamespace.current().identity == own)
  }

  @Test func `what the body throws comes out`() throws {
    let namespace = try NetworkNamespace.anonymous()
    let thrown = try message { () throws(LinuxError) in
      try namespace.perform { () throws(LinuxError) in
        throw LinuxError(action: "do", subject: "that", errno: .notSupported)
      }
    }
    #expect(thrown == LinuxError(action: "do", subject: "that", errno: .notSupported))
  }

  @Test func `a thread and a descriptor are not left behind`() throws {
    let namespace = try NetworkNamespace.anonymous()
    func count(_ directory: String) throws -> Int {
      try FileManager.default.contentsOfDirectory(atPath: directory).count
    }
    // Other tests run in this process at the same time: the figures may differ by a few, not by
    // hundreds.
    let threads = try count("/proc/self/task")
    let descriptors = try count("/proc/self/fd")
    for _ in 0..<500 {
      _ = try namespace.netlink()
      _ = try? NetworkNamespace(path: "/etc/hostname")
    }
    #expect(try count("/proc/self/task") < threads + 100)
    #expect(try count("/proc/self/fd") < descriptors + 100)
  }

  @Test func `errors tell what is wrong and what to do`() throws {
    func text(_ body: () throws(LinuxError) -> NetworkNamespace) throws -> String {
      try message { () throws(LinuxError) in _ = try body() }.description
    }
    #expect(
      try text { () throws(LinuxError) in try NetworkNamespace(named: "ovxnl-none") }
        == "cannot find network namespace ovxnl-none: there is none of that name in /run/netns; create it"
        + " with `ip netns add ovxnl-none`, or give pid:N, a path, or a container's name"
    )
    for name in ["", ".", "..", "a/b", "zero\0"] {
      #expect(
        try text { () throws(LinuxError) in try NetworkNamespace(named: name) }
          .contains("there is none of that name")
      )
    }
    #expect(
      try text { () throws(LinuxError) in try NetworkNamespace(pid: 0x7FFF_FFFF) }
        .hasPrefix("cannot use pid:2147483647: there is no process 2147483647; ")
    )
    #expect(
      try text { () throws(LinuxError) in try NetworkNamespace(pid: -1) }
        .contains("there is no process -1")
    )
    #expect(
      try text { () throws(LinuxError) in try NetworkNamespace(path: "/nowhere") }
        .hasPrefix(
          "cannot use /nowhere: there is no such file; give the path of a namespace's file"
        )
    )
    for path in ["/etc/hostname", "/dev/null", "/dev/tty", "/proc/self/ns/mnt", "/tmp"] {
      #expect(
        try text { () throws(LinuxError) in try NetworkNamespace(path: path) }
          .hasPrefix("cannot use \(path): it is not a network namespace; ")
      )
    }
  }

  @Test func `a name whose namespace is gone is told from one that never was`() throws {
    try withNamedNamespace { name in
      // What `umount` leaves behind: the name without the namespace.
      let gone = try run("/bin/umount", ["/run/netns/\(name)"], until: .now + .seconds(10))
      try #require(gone.status == 0, "\(gone.errors)")
      let refusal = try message { () throws(LinuxError) in _ = try NetworkNamespace(named: name) }
      #expect(
        refusal.description
          == "cannot use \(name): it is not a network namespace; make it anew with `ip netns delete"
          + " \(name)` and `ip netns add \(name)`, not within `ip netns exec`, where the name would"
          + " hold there alone")
    }
  }

  @Test(.timeLimit(.minutes(1))) func `a pipe in place of a namespace does not hang`() throws {
    try withTemporaryDirectory { directory in
      let path = "\(directory)/fifo"
      let made = unsafe mkfifo(path, 0o600)
      try #require(made == 0)
      let refusal = try message { () throws(LinuxError) in _ = try NetworkNamespace(path: path) }
      #expect(refusal.description.contains("it is not a network namespace"))
    }
  }
}
