private import OVXDatapath
private import OVXLinux
private import SystemPackage
import Testing

@Suite(.enabled(if: isRoot, "makes network namespaces, which takes root"))
struct LinkEventsTests {
  /// Everything that has been queued.
  ///
  /// The kernel queues before the call that causes an event returns.
  private func drain(_ events: inout LinkEvents) throws -> [LinkEvent] {
    var taken: [LinkEvent] = []
    while let event = try events.next() { taken.append(event) }
    return taken
  }

  private func subscribe(
    _ namespace: NetworkNamespace,
    _ subjects: LinkEvents.Subjects = []
  ) throws -> LinkEvents {
    try namespace.perform { () throws(LinuxError) in try LinkEvents(subjects) }
  }

  private func appeared(_ events: [LinkEvent]) -> [String] {
    events.compactMap { if case .appeared(let link) = $0 { link.name } else { nil } }
  }

  private func changed(_ events: [LinkEvent]) -> [Link] {
    events.compactMap { if case .changed(let link) = $0 { link } else { nil } }
  }

  @Test func `a life is told from the first to the last event`() throws {
    let namespace = try NetworkNamespace.anonymous()
    var netlink = try namespace.netlink()
    var events = try subscribe(namespace)
    #expect(try events.next() == nil)

    try netlink.createVeth(VethEnd("veth0"), peer: VethEnd("veth1"))
    #expect(Set(appeared(try drain(&events))) == ["veth0", "veth1"])

    let veth0 = try netlink.existing("veth0")
    try netlink.setUp(true, veth0)
    let switched = try drain(&events)
    #expect(changed(switched).contains { $0.index == veth0.index && $0.isUp })
    #expect(appeared(switched).isEmpty)

    try netlink.setMTU(1300, of: veth0)
    let narrowed = changed(try drain(&events))
    #expect(narrowed.contains { $0.index == veth0.index && $0.mtu == 1300 })

    try netlink.rename(veth0, to: "eth0")
    let renamed = try drain(&events)
    #expect(changed(renamed).contains { $0.index == veth0.index && $0.name == "eth0" })
    #expect(appeared(renamed).isEmpty)

    let veth1 = try netlink.existing("veth1")
    try netlink.delete(veth0)
    let gone = try drain(&events)
    #expect(gone.contains(.disappeared(name: "eth0", index: veth0.index, moved: false)))
    #expect(gone.contains(.disappeared(name: "veth1", index: veth1.index, moved: false)))
  }

  @Test func `who moves disappears here and appears there`() throws {
    let here = try NetworkNamespace.anonymous()
    let there = try NetworkNamespace.anonymous()
    var netlink = try here.netlink()
    try netlink.createVeth(VethEnd("veth0"), peer: VethEnd("veth1"))
    let veth1 = try netlink.existing("veth1")
    var eventsHere = try subscribe(here)
    var eventsThere = try subscribe(there)
    try netlink.move(veth1, to: there, as: "eth0")
    #expect(
      try drain(&eventsHere).contains(.disappeared(name: "veth1", index: veth1.index, moved: true))
    )
    let arrived = try drain(&eventsThere)
    // The kernel renames it only after it has arrived, if the old name is free there.
    #expect(appeared(arrived) == ["veth1"])
    #expect(changed(arrived).last?.name == "eth0")
  }

  @Test func `a TAP appears when it is made`() throws {
    let namespace = try NetworkNamespace.anonymous()
    var events = try subscribe(namespace)
    try ip("tuntap", "add", "tap0", "mode", "tap", in: namespace)
    #expect(appeared(try drain(&events)) == ["tap0"])
  }

  @Test func `leaving a bridge is a change and no end`() throws {
    let namespace = try NetworkNamespace.anonymous()
    try ip("link", "add", "br0", "type", "bridge", in: namespace)
    try ip("link", "add", "veth0", "type", "veth", "peer", "veth1", in: namespace)
    try ip("link", "set", "veth0", "master", "br0", in: namespace)
    var events = try subscribe(namespace)
    // The bridge says RTM_DELLINK here, in the family AF_BRIDGE.
    try ip("link", "set", "veth0", "nomaster", in: namespace)
    let taken = try drain(&events)
    #expect(!taken.isEmpty)
    #expect(changed(taken).count == taken.count, "\(taken)")
  }

  @Test func `addresses and routes are told on request only`() throws {
    let namespace = try NetworkNamespace.anonymous()
    var netlink = try namespace.netlink()
    try netlink.createVeth(VethEnd("veth0"), peer: VethEnd("veth1"))
    let veth0 = try netlink.existing("veth0")
    try netlink.setUp(true, veth0)
    try netlink.setUp(true, try netlink.existing("veth1"))
    var links = try subscribe(namespace)
    var all = try subscribe(namespace, [.addresses, .routes])

    try netlink.add(InterfaceAddress(v4(10, 0, 0, 1), prefixLength: 24), to: veth0)
    try netlink.add(InterfaceAddress(v6(1), prefixLength: 64), to: veth0)
    let added = try drain(&all)
    #expect(added.contains(.addressesChanged(linkIndex: veth0.index)))
    #expect(added.contains(.routesChanged))
    try netlink.addDefaultRoute(via: v4(10, 0, 0, 254))
    #expect(try drain(&all).contains(.routesChanged))
    try netlink.remove(InterfaceAddress(v4(10, 0, 0, 1), prefixLength: 24), from: veth0)
    #expect(try drain(&all).contains(.addressesChanged(linkIndex: veth0.index)))
    #expect(
      try drain(&links).allSatisfy {
        $0 != .routesChanged && $0 != .addressesChanged(linkIndex: veth0.index)
      }
    )
  }

  @Test func `after a loss there is one overrun and nothing that is older than it`() throws {
    let namespace = try NetworkNamespace.anonymous()
    var netlink = try namespace.netlink()
    var events = try namespace.perform { () throws(LinuxError) in
      try LinkEvents(receiveBuffer: 8192)
    }
    for number in 0..<50 {
      try netlink.createVeth(VethEnd("left\(number)"), peer: VethEnd("right\(number)"))
    }
    let taken = try drain(&events)
    #expect(taken == [.overrun], "\(taken)")
    #expect(try netlink.links().count == 101)

    // It works on afterwards.
    let left0 = try netlink.existing("left0")
    try netlink.delete(left0)
    let gone = LinkEvent.disappeared(name: "left0", index: left0.index, moved: false)
    #expect(try drain(&events).contains(gone))
  }

  @Test func `the default holds the birth of a thousand devices`() throws {
    let namespace = try NetworkNamespace.anonymous()
    var netlink = try namespace.netlink()
    var events = try subscribe(namespace, [.addresses, .routes])
    for number in 0..<500 {
      try netlink.createVeth(VethEnd("left\(number)"), peer: VethEnd("right\(number)"))
    }
    let taken = try drain(&events)
    #expect(!taken.contains(.overrun))
    #expect(Set(appeared(taken)).count == 1000)
  }
}
