private import OVXDatapath
private import OVXLinux
private import SystemPackage
import Testing

@Suite(.enabled(if: isRoot, "makes network namespaces, which takes root"))
struct AddressTests {
  /// A namespace with a veth pair, both ends up.
  private func prepare() throws -> NetworkNamespace {
    let namespace = try NetworkNamespace.anonymous()
    var netlink = try namespace.netlink()
    try netlink.createVeth(VethEnd("veth0"), peer: VethEnd("veth1"))
    try netlink.setUp(true, try netlink.existing("veth0"))
    try netlink.setUp(true, try netlink.existing("veth1"))
    return namespace
  }

  @Test func `addresses are added, listed and removed`() throws {
    let namespace = try prepare()
    var netlink = try namespace.netlink()
    let veth0 = try netlink.existing("veth0")
    let addresses = [
      InterfaceAddress(v4(10, 0, 0, 1), prefixLength: 24),
      InterfaceAddress(v4(192, 168, 255, 254), prefixLength: 32),
      InterfaceAddress(v6(1), prefixLength: 64),
    ]
    for address in addresses { try netlink.add(address, to: veth0) }
    let listed = Set(try netlink.addresses(of: veth0))
    #expect(listed.isSuperset(of: addresses))
    #expect(addresses.map(\.description) == ["10.0.0.1/24", "192.168.255.254/32", "fd00::1/64"])
    let shown = try ip("address", "show", "veth0", in: namespace)
    for address in addresses { #expect(shown.contains(" \(address) ")) }
    // The IPv6 one is usable at once.
    #expect(shown.contains("fd00::1/64 scope global nodad"))
    #expect(!shown.contains("fd00::1/64 scope global tentative"))

    let others = try netlink.addresses(of: try netlink.existing("veth1"))
    #expect(others.allSatisfy { $0.address.isIPv6 && $0.prefixLength == 64 })
    let all = try netlink.allAddresses().filter { $0.linkIndex == veth0.index }.map(\.address)
    #expect(Set(all) == listed)

    for address in addresses { try netlink.remove(address, from: veth0) }
    #expect(Set(try netlink.addresses(of: veth0)).isDisjoint(with: addresses))
  }

  @Test func `the kernel remembers who gave an address`() throws {
    let namespace = try prepare()
    var netlink = try namespace.netlink()
    let veth0 = try netlink.existing("veth0")
    let ours = [
      InterfaceAddress(v4(10, 0, 0, 1), prefixLength: 24),
      InterfaceAddress(v6(1), prefixLength: 64),
    ]
    let theirs = InterfaceAddress(v4(10, 0, 0, 2), prefixLength: 24)
    for address in ours { try netlink.add(address, to: veth0, mark: .ovx) }
    try netlink.add(theirs, to: veth0)
    let marks = try netlink.marksOfAddresses(of: veth0)
    #expect(ours.allSatisfy { marks[$0] == .ovx })
    #expect(marks[theirs] == AddressMark.none)
    // What the kernel gives itself is neither.
    #expect(marks.values.filter { $0 == .ovx }.count == ours.count)
  }

  @Test func `refusals say which address and which device`() throws {
    var netlink = try prepare().netlink()
    let veth0 = try netlink.existing("veth0")
    let address = InterfaceAddress(v4(10, 0, 0, 1), prefixLength: 24)
    let missing = try message { () throws(LinuxError) in try netlink.remove(address, from: veth0) }
    #expect(missing.errno == .addressNotAvailable)
    #expect(missing.description.hasPrefix("cannot remove 10.0.0.1/24 from veth0: "))
    try netlink.add(address, to: veth0)
    let twice = try message { () throws(LinuxError) in try netlink.add(address, to: veth0) }
    #expect(twice.errno == .fileExists)
    #expect(twice.description.contains("add 10.0.0.1/24 to veth0"))
    #expect(twice.description.contains("the device has this address already"))
    let prefix = InterfaceAddress(v4(10, 0, 0, 2), prefixLength: 33)
    let invalid = try message { () throws(LinuxError) in try netlink.add(prefix, to: veth0) }
    #expect(invalid.errno == .invalidArgument)
    #expect(invalid.description.contains("a prefix has at most 32 bits"))
  }

  @Test func `where IPv6 is switched off, the error says how`() throws {
    let namespace = try prepare()
    let written = try namespace.perform { () throws(LinuxError) in
      try run(
        "/bin/sh",
        ["-c", "echo 1 > /proc/sys/net/ipv6/conf/veth0/disable_ipv6"],
        until: .now + .seconds(5)
      )
    }
    try #require(written.status == 0, "\(written.errors)")
    var netlink = try namespace.netlink()
    let veth0 = try netlink.existing("veth0")
    let refusal = try message { () throws(LinuxError) in
      try netlink.add(InterfaceAddress(v6(1), prefixLength: 64), to: veth0)
    }
    #expect(refusal.description.contains("net.ipv6.conf.veth0.disable_ipv6"), "\(refusal)")
  }
}
