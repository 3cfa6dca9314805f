private import Glibc
private import OVXDatapath
private import OVXLinux
private import SystemPackage
private import Synchronization
import Testing

@Suite(.enabled(if: isRoot, "makes network namespaces, which takes root"))
struct LinkTests {
  @Test func `a veth pair has the names, addresses and MTUs it was given`() throws {
    let namespace = try NetworkNamespace.anonymous()
    var netlink = try namespace.netlink()
    let address = try #require(MACAddress("02:00:00:00:00:01"))
    try netlink.createVeth(
      VethEnd("left", address: address, mtu: 1400),
      peer: VethEnd("right", mtu: 9000)
    )

    let left = try netlink.existing("left")
    let right = try netlink.existing("right")
    #expect(left.address == address)
    #expect((left.mtu, right.mtu) == (1400, 9000))
    #expect((left.kind, right.kind) == ("veth", "veth"))
    #expect((left.peer, right.peer) == (right.index, left.index))
    #expect(left.peerNamespace == nil)
    #expect(left.isEthernet && !left.isUp && !left.isRunning)
    #expect((left.minimumMTU, left.maximumMTU) == (68, 65535))
    #expect(try netlink.link(index: left.index) == left)
    #expect(try netlink.links().map(\.name).sorted() == ["left", "lo", "right"])
    #expect(try netlink.existing("lo").isEthernet == false)
    #expect(try netlink.existing("lo").kind == nil)
  }

  @Test func `an end can be made in another namespace`() throws {
    let here = try NetworkNamespace.anonymous()
    let there = try NetworkNamespace.anonymous()
    var netlink = try here.netlink()
    try netlink.createVeth(VethEnd("veth0"), peer: VethEnd("eth0", namespace: there))
    var other = try there.netlink()
    let eth0 = try other.existing("eth0")
    let veth0 = try netlink.existing("veth0")
    #expect(veth0.peer == eth0.index)
    #expect(veth0.peerNamespace != nil)
    #expect(try netlink.link(named: "eth0") == nil)
  }

  @Test func `what is not there is nil`() throws {
    var netlink = try NetworkNamespace.anonymous().netlink()
    #expect(try netlink.link(named: "nothing") == nil)
    #expect(try netlink.link(named: "") == nil)
    #expect(try netlink.link(named: "longer-than-any-interface") == nil)
    #expect(try netlink.link(named: String(repeating: "x", count: 5000)) == nil)
    #expect(try netlink.link(index: 4711) == nil)
    #expect(try netlink.link(index: -1) == nil)
  }

  @Test func `a device is found by its alternative name`() throws {
    let namespace = try NetworkNamespace.anonymous()
    try ip("link", "add", "veth0", "type", "veth", "peer", "veth1", in: namespace)
    try ip(
      "link",
      "property",
      "add",
      "dev",
      "veth0",
      "altname",
      "a-name-of-some-length",
      in: namespace
    )
    var netlink = try namespace.netlink()
    #expect(try netlink.existing("a-name-of-some-length").name == "veth0")
  }

  @Test func `changes are in force when the call returns`() throws {
    let namespace = try NetworkNamespace.anonymous()
    var netlink = try namespace.netlink()
    try netlink.createVeth(VethEnd("veth0"), peer: VethEnd("veth1"))
    let veth0 = try netlink.existing("veth0")
    let address = try #require(MACAddress("02:00:00:00:00:99"))
    try netlink.setMTU(1234, of: veth0)
    try netlink.setAddress(address, of: veth0)
    try netlink.setAlias("web, port 1", of: veth0)
    try netlink.setGSOMaxSize(40_000, of: veth0)
    try netlink.setQueueLength(2345, of: veth0)
    try netlink.setUp(true, veth0)
    try netlink.setUp(true, try netlink.existing("veth1"))

    let changed = try netlink.existing("veth0")
    #expect(changed.mtu == 1234)
    #expect(changed.address == address)
    #expect(changed.alias == "web, port 1")
    #expect(changed.gsoMaxSize == 40_000)
    #expect(changed.gsoIPv4MaxSize == 40_000)
    #expect(changed.queueLength == 2345)
    #expect(changed.isUp && changed.isRunning)
    let described = try ip("-d", "link", "show", "veth0", in: namespace)
    #expect(described.contains("mtu 1234"))
    #expect(described.contains("02:00:00:00:00:99"))
    #expect(described.contains("gso_max_size 40000"))
    #expect(described.contains("qlen 2345"))
    #expect(described.contains("alias web, port 1"))
    #expect(described.contains(",UP"))

    try netlink.setGSOMaxSize(200_000, of: veth0)
    #expect(try netlink.existing("veth0").gsoMaxSize == 200_000)
    #expect(try netlink.existing("veth0").gsoIPv4MaxSize == 40_000)

    try netlink.setAlias("", of: veth0)
    try netlink.setUp(false, veth0)
    #expect(try netlink.existing("veth0").alias == nil)
    #expect(try !netlink.existing("veth0").isUp)
    #expect(try !netlink.existing("veth1").isRunning)
  }

  @Test func `a device keeps its index through a new name`() throws {
    var netlink = try NetworkNamespace.anonymous().netlink()
    try netlink.createVeth(VethEnd("veth0"), peer: VethEnd("veth1"))
    let veth0 = try netlink.existing("veth0")
    try netlink.setUp(true, veth0)
    try netlink.rename(veth0, to: "eth0")
    #expect(try netlink.existing("eth0").index == veth0.index)
    #expect(try netlink.link(named: "veth0") == nil)
  }

  @Test func `a device moves under a new name although the old one is taken there`() throws {
    let here = try NetworkNamespace.anonymous()
    let there = try NetworkNamespace.anonymous()
    var netlink = try here.netlink()
    var other = try there.netlink()
    try netlink.createVeth(VethEnd("veth0"), peer: VethEnd("veth1"))
    try other.createVeth(VethEnd("veth0"), peer: VethEnd("veth1"))
    let veth1 = try netlink.existing("veth1")

    let taken = try message { () throws(LinuxError) in try netlink.move(veth1, to: there) }
    #expect(taken.errno == .fileExists)
    #expect(taken.description.contains("a device of that name is there already"))

    try netlink.move(veth1, to: there, as: "eth0")
    #expect(try netlink.link(named: "veth1") == nil)
    #expect(try other.existing("eth0").address == veth1.address)
    #expect(try netlink.existing("veth0").peerNamespace != nil)
  }

  @Test func `deleting one end of a pair deletes both`() throws {
    var netlink = try NetworkNamespace.anonymous().netlink()
    try netlink.createVeth(VethEnd("veth0"), peer: VethEnd("veth1"))
    let veth0 = try netlink.existing("veth0")
    try netlink.delete(veth0)
    #expect(try netlink.links().map(\.name) == ["lo"])
    let gone = try message { () throws(LinuxError) in try netlink.delete(veth0) }
    #expect(gone.errno == .operationNotSupportedByDevice)
    #expect(gone.description == "cannot delete veth0: No such device")
  }

  @Test func `refusals are in the kernel's own words and say what is possible`() throws {
    var netlink = try NetworkNamespace.anonymous().netlink()
    try netlink.createVeth(VethEnd("veth0"), peer: VethEnd("veth1"))
    let veth0 = try netlink.existing("veth0")
    for mtu in [67, 65536, -1, Int.max] {
      let refusal = try message { () throws(LinuxError) in try netlink.setMTU(mtu, of: veth0) }
      let reason = mtu < 68 ? "mtu less than device minimum" : "mtu greater than device maximum"
      #expect(
        refusal.description
          == "cannot set the MTU of veth0 to \(mtu): \(reason); valid are 68 to 65535"
      )
    }
    let name = try message { () throws(LinuxError) in try netlink.rename(veth0, to: "veth1") }
    #expect(name.errno == .fileExists)
    #expect(name.description.hasPrefix("cannot rename veth0 to veth1: "))
    let slash = try message { () throws(LinuxError) in try netlink.rename(veth0, to: "a/b") }
    #expect(slash.errno == .invalidArgument)
    let long = try message { () throws(LinuxError) in
      try netlink.rename(veth0, to: "sixteen-letters-")
    }
    #expect(long.description.hasPrefix("cannot rename veth0 to sixteen-letters-: "))
    let group = try message { () throws(LinuxError) in
      try netlink.setAddress(MACAddress(truncating: 0x0100_5E00_0001), of: veth0)
    }
    #expect(group.errno == .addressNotAvailable)
    let pair = try message { () throws(LinuxError) in
      try netlink.createVeth(VethEnd("veth0"), peer: VethEnd("veth2"))
    }
    #expect(pair.errno == .fileExists)
    #expect(pair.description.contains("delete that device or choose another"))
    let superframe = try message { () throws(LinuxError) in
      try netlink.setGSOMaxSize(10_000_000, of: veth0)
    }
    #expect(superframe.description.contains("the device takes 524280 bytes at most"))
    let alias = try message { () throws(LinuxError) in
      try netlink.setAlias(String(repeating: "x", count: 10_000), of: veth0)
    }
    #expect(alias.errno == .messageTooLong)
    // None of them left anything behind.
    #expect(try netlink.existing("veth0") == veth0)
  }

  @Test func `kinds, masters and groups are told`() throws {
    let namespace = try NetworkNamespace.anonymous()
    try ip("link", "add", "br0", "type", "bridge", in: namespace)
    try ip("link", "add", "veth0", "type", "veth", "peer", "veth1", in: namespace)
    try ip("link", "set", "veth0", "master", "br0", "group", "7", in: namespace)
    try ip("tuntap", "add", "tap0", "mode", "tap", in: namespace)
    try ip("tuntap", "add", "tun0", "mode", "tun", in: namespace)
    var netlink = try namespace.netlink()
    let bridge = try netlink.existing("br0")
    #expect(bridge.kind == "bridge")
    #expect(try netlink.existing("veth0").master == bridge.index)
    #expect(try netlink.existing("veth0").group == 7)
    #expect(try netlink.existing("tap0").kind == "tun")
    #expect(try netlink.existing("tap0").isEthernet)
    #expect(try netlink.existing("tun0").isEthernet == false)
    #expect(try netlink.existing("tun0").address == nil)
  }

  @Test func `the kernel's VXLAN devices are found with port and VNI`() throws {
    let namespace = try NetworkNamespace.anonymous()
    try ip("link", "add", "vx0", "type", "vxlan", "id", "77", "dstport", "4789", in: namespace)
    try ip("link", "add", "vx1", "type", "vxlan", "external", "dstport", "8472", in: namespace)
    try ip("link", "add", "veth0", "type", "veth", "peer", "veth1", in: namespace)
    var netlink = try namespace.netlink()
    let devices = try netlink.links().filter { $0.vxlan != nil }.sorted { $0.name < $1.name }
    #expect(devices.map(\.name) == ["vx0", "vx1"])
    #expect(devices.map { $0.vxlan?.port } == [4789, 8472])
    #expect(devices.map { $0.vxlan?.vni?.rawValue } == [77, nil])
  }

  @Test func `a thousand devices are listed whole, also while others come and go`() throws {
    let namespace = try NetworkNamespace.anonymous()
    var netlink = try namespace.netlink()
    for number in 0..<500 {
      try netlink.createVeth(VethEnd("left\(number)"), peer: VethEnd("right\(number)"))
    }
    let all = Set((0..<500).flatMap { ["left\($0)", "right\($0)"] } + ["lo"])
    #expect(Set(try netlink.links().map(\.name)) == all)

    let isOver = Mutex(false)
    let churn = Background {
      var netlink = try namespace.netlink()
      while !isOver.withLock({ $0 }) {
        try netlink.createVeth(VethEnd("coming"), peer: VethEnd("going"))
        try netlink.delete(try netlink.existing("coming"))
      }
    }
    for _ in 0..<20 {
      let names = try netlink.links().map(\.name).filter { $0 != "coming" && $0 != "going" }
      #expect(names.count == all.count)
      #expect(Set(names) == all)
    }
    isOver.withLock { $0 = true }
    churn.join()
  }
}
