private import Glibc
private import OVXDatapath
private import OVXLinux
private import SystemPackage
import Testing

@Suite(.enabled(if: geteuid() == 0, "makes network namespaces, which takes root"))
struct NetlinkTests {
  @Test func `a veth pair is made, seen from both ends and deleted`() throws {
    let namespace = try NetworkNamespace.anonymous()
    var netlink = try namespace.perform { () throws(LinuxError) in try Netlink() }
    try netlink.createVeth(VethEnd("left", mtu: 1400), peer: VethEnd("right"))
    let links = try netlink.links()
    #expect(links.map(\.name).sorted() == ["left", "lo", "right"])
  }
}
