private import OVXDatapath
@testable private import OVXLinux
private import SystemPackage
import Testing

@Suite(.enabled(if: isRoot, "makes network namespaces, which takes root"))
struct StackFilterTests {
  private func prepare() throws -> (NetworkNamespace, Link) {
    let namespace = try NetworkNamespace.anonymous()
    var netlink = try namespace.netlink()
    try netlink.createVeth(VethEnd("veth0"), peer: VethEnd("veth1"))
    return (namespace, try netlink.existing("veth0"))
  }

  @Test func `a device is isolated once, by each who wants it, and given back by the last`() throws
  {
    let (namespace, link) = try prepare()
    var netlink = try namespace.netlink()
    let (one, other) = (StackFilter(owner: "one"), StackFilter(owner: "other"))
    #expect(try !netlink.isIsolated(link, by: one))
    #expect(try netlink.isolate(link, by: one))
    #expect(try !netlink.isolate(link, by: one))
    #expect(try netlink.isIsolated(link, by: one))
    #expect(try !netlink.holds(link, other))
    #expect(try netlink.isolate(link, by: other))
    #expect(try netlink.classifiedLinks() == [link.index])
    for direction in TrafficDirection.allCases {
      let filters = try netlink.filters(of: link, direction).filter { $0.handle != 0 }
      #expect(filters.map(StackFilter.isAny) == [true, true])
      #expect(filters.count(where: one.isProgram) == 1)
    }
    try netlink.release(link, from: other)
    #expect(try netlink.isIsolated(link, by: one))
    try netlink.release(link, from: one)
    #expect(try netlink.classifiedLinks() == [])
    try netlink.release(link, from: one)
  }

  @Test func `a discipline that was there stays`() throws {
    let (namespace, link) = try prepare()
    var netlink = try namespace.netlink()
    let filter = StackFilter(owner: "one")
    for kind in ["clsact", "ingress"] {
      try namespace.perform { () throws(LinuxError) in
        let made = try run(
          "/sbin/tc", ["qdisc", "add", "dev", "veth0", kind], until: .now + .seconds(10))
        #expect(made.status == 0, "\(made.errors)")
      }
      #expect(try netlink.isolate(link, by: filter))
      #expect(try netlink.isIsolated(link, by: filter))
      try netlink.release(link, from: filter)
      #expect(try netlink.classifiedLinks() == [link.index])
      try namespace.perform { () throws(LinuxError) in
        let gone = try run(
          "/sbin/tc", ["qdisc", "del", "dev", "veth0", kind], until: .now + .seconds(10))
        #expect(gone.status == 0, "\(gone.errors)")
      }
    }
  }

  @Test func `a filter that comes in front is behind again`() throws {
    let (namespace, link) = try prepare()
    var netlink = try namespace.netlink()
    let filter = StackFilter(owner: "one")
    #expect(try netlink.isolate(link, by: filter))
    for direction in ["ingress", "egress"] {
      try namespace.perform { () throws(LinuxError) in
        let made = try run(
          "/sbin/tc",
          "filter add dev veth0 \(direction) pref 1 protocol all bpf da bytecode".split(
            separator: " "
          ).map(String.init) + ["1,6 0 0 0"], until: .now + .seconds(10))
        #expect(made.status == 0, "\(made.errors)")
      }
      #expect(try !netlink.isIsolated(link, by: filter))
      #expect(try netlink.isolate(link, by: filter))
      #expect(try netlink.isIsolated(link, by: filter))
      #expect(try !netlink.isolate(link, by: filter))
    }
    for direction in TrafficDirection.allCases {
      let filters = try netlink.filters(of: link, direction).filter { $0.handle != 0 }
      #expect(filters.map(StackFilter.isAny) == [true, false])
    }
    // The other filters keep the discipline.
    try netlink.release(link, from: filter)
    #expect(try netlink.classifiedLinks() == [link.index])
  }

  @Test func `a filter that goes is told of, and one of ours that comes is not`() throws {
    let (namespace, link) = try prepare()
    var netlink = try namespace.netlink()
    var events = try namespace.perform { () throws(LinuxError) in try LinkEvents(.filters) }
    let filter = StackFilter(owner: "one")
    func heard() throws -> Set<Int32> {
      var indices: Set<Int32> = []
      while let event = try events.next() {
        if case .filtersChanged(let index) = event { indices.insert(index) }
      }
      return indices
    }
    #expect(try netlink.isolate(link, by: filter))
    #expect(try heard() == [])
    try netlink.release(link, from: filter)
    #expect(try heard() == [link.index])
  }

  @Test func `a device that is gone is refused, and named`() throws {
    let (namespace, link) = try prepare()
    var netlink = try namespace.netlink()
    try netlink.delete(link)
    let refusal = try message { () throws(LinuxError) in
      _ = try netlink.isolate(link, by: StackFilter(owner: "one"))
    }
    #expect(refusal.isAbout("veth0"))
  }
}

extension LinuxError {
  fileprivate func isAbout(_ subject: String) -> Bool { description.contains(subject) }
}
