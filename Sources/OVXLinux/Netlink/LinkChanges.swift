private import CLinux
package import OVXDatapath
private import SystemPackage

extension Netlink {
  /// Makes a veth, both ends of which are down.
  ///
  /// - Parameters:
  ///   - name: Of the end in this namespace.
  ///   - otherEnd: The name of the other one.
  ///   - namespace: Where the other end is made; `nil` for this namespace.
  ///   - address: The Ethernet address of the other end; `nil` for any.
  /// - Throws: `EEXIST` where a name is taken.
  package mutating func makeVeth(
    named name: String, otherEnd: String, in namespace: NetworkNamespace? = nil,
    address: MACAddress? = nil
  ) throws(LinuxError) {
    // linux/veth.h, whose header CLinux does not include for this one number.
    let peerInformation = 1
    var request = NetlinkRequest(
      type: Int(RTM_NEWLINK), flags: Int32(NLM_F_CREATE | NLM_F_EXCL), family: ifinfomsg())
    request.put(Int(IFLA_IFNAME), name)
    request.nest(Int(IFLA_LINKINFO)) {
      $0.put(Int(IFLA_INFO_KIND), "veth")
      $0.nest(Int(IFLA_INFO_DATA)) {
        $0.nest(peerInformation) {
          $0.put(ifinfomsg())
          $0.put(Int(IFLA_IFNAME), otherEnd)
          if let address { $0.put(Int(IFLA_ADDRESS), address) }
          if let namespace { $0.put(Int(IFLA_NET_NS_FD), descriptor: namespace.rawValue) }
        }
      }
    }
    try transact(request, for: Purpose(action: "make the veth", subject: name))
  }

  /// Gives a device another name.
  ///
  /// It may be up.
  ///
  /// - Throws: `EEXIST` where the name is taken, `EINVAL` where it is none.
  package mutating func rename(_ link: Link, to name: String) throws(LinuxError) {
    try change(link, "rename", to: " to \(name)") { $0.put(Int(IFLA_IFNAME), name) }
  }

  /// Sets a device's MTU in bytes.
  ///
  /// - Throws: `EINVAL` outside of what the device can have, with the kernel's words.
  package mutating func setMTU(_ mtu: Int, of link: Link) throws(LinuxError) {
    // A figure that the kernel's 32 bits cannot hold is refused as the nearest that they can.
    let value = UInt32(bitPattern: Int32(clamping: mtu))
    try change(link, "set the MTU of", to: " to \(mtu)") {
      $0.put(Int(IFLA_MTU), value)
    } remedy: { errno in
      guard errno == .invalidArgument else { return nil }
      return link.maximumMTU.map { "valid are \(link.minimumMTU) to \($0)" }
        ?? "valid are \(link.minimumMTU) and more"
    }
  }

  /// Sets a device's Ethernet address.
  ///
  /// - Throws: `EADDRNOTAVAIL` for a group address or zero, `EBUSY` where the device must be down
  ///   for that.
  package mutating func setAddress(
    _ address: MACAddress,
    of link: Link
  ) throws(LinuxError) {
    try change(link, "set the MAC address of", to: " to \(address)") {
      $0.put(Int(IFLA_ADDRESS), address)
    }
  }

  /// Switches a device on or off.
  package mutating func setUp(_ isUp: Bool, _ link: Link) throws(LinuxError) {
    try change(
      link,
      isUp ? "switch on" : "switch off",
      flags: isUp ? .up : [],
      changing: .up
    )
  }

  /// Sets how many frames may wait to be sent by a device; by a TAP, to be read.
  package mutating func setQueueLength(_ frames: Int, of link: Link) throws(LinuxError) {
    let value = UInt32(clamping: frames)
    try change(link, "set the queue's length of", to: " to \(frames)") {
      $0.put(Int(IFLA_TXQLEN), value)
    }
  }

  /// Sets the largest superframe that the kernel hands to a device, in bytes with headers.
  ///
  /// Above 64 KiB (BIG TCP) that holds for IPv6 only, and IPv4 keeps what it has; up to there for
  /// both.
  ///
  /// - Throws: `EINVAL` where the device cannot have it; see `tsoMaxSize`.
  package mutating func setGSOMaxSize(_ size: Int, of link: Link) throws(LinuxError) {
    let value = UInt32(clamping: size)
    try change(link, "set the largest superframe of", to: " to \(size)") {
      $0.put(Int(IFLA_GSO_MAX_SIZE), value)
    } remedy: { errno in
      guard errno == .invalidArgument else { return nil }
      return link.tsoMaxSize.map { "the device takes \($0) bytes at most" }
    }
  }

  /// Sets the text for people that `ip link` shows of a device, up to 255 bytes; an empty one
  /// removes it.
  package mutating func setAlias(_ alias: String, of link: Link) throws(LinuxError) {
    try change(link, "set the alias of") { $0.put(Int(IFLA_IFALIAS), alias) }
  }

  /// Moves a device into another namespace, where it arrives down and without addresses.
  ///
  /// - Parameters:
  ///   - link: The device.
  ///   - namespace: Where it goes.
  ///   - name: The name it takes there; `nil` is the one it has. To be given with the move spares a
  ///     name that is free in both namespaces.
  /// - Throws: `EEXIST` where the name is taken there, `EINVAL` for a device that cannot be moved.
  package mutating func move(
    _ link: Link,
    to namespace: NetworkNamespace,
    as name: String? = nil
  ) throws(LinuxError) {
    let place = " to \(namespace.name)" + (name.map { " as \($0)" } ?? "")
    try change(link, "move", to: place) {
      $0.put(Int(IFLA_NET_NS_FD), descriptor: namespace.rawValue)
      if let name { $0.put(Int(IFLA_IFNAME), name) }
    } remedy: { errno in
      errno == .fileExists ? "a device of that name is there already" : nil
    }
  }

  /// Deletes a device; a veth's other end goes with it.
  ///
  /// - Throws: `ENODEV` where it is gone already, `EOPNOTSUPP` for a physical one.
  package mutating func delete(_ link: Link) throws(LinuxError) {
    var family = ifinfomsg()
    family.ifi_index = link.index
    try transact(
      NetlinkRequest(type: Int(RTM_DELLINK), flags: 0, family: family),
      for: Purpose(action: "delete", subject: link.name)
    )
  }

  /// Changes one thing about a device, which is named by its index: names can be given to another
  /// at any time.
  private mutating func change(
    _ link: Link,
    _ action: String,
    to value: String = "",
    flags: Link.Flags = [],
    changing mask: Link.Flags = [],
    put: (inout NetlinkRequest) -> Void = { _ in },
    remedy: @escaping (Errno) -> String? = { _ in nil }
  ) throws(LinuxError) {
    var family = ifinfomsg()
    family.ifi_index = link.index
    family.ifi_flags = flags.rawValue
    family.ifi_change = mask.rawValue
    var request = NetlinkRequest(type: Int(RTM_NEWLINK), flags: 0, family: family)
    put(&request)
    try transact(
      request,
      for: Purpose(action: action, subject: link.name + value, remedy: remedy)
    )
  }
}
