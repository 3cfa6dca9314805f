private import CLinux
private import Glibc
package import OVXDatapath
private import SystemPackage

/// An IP address of a device and the length of its subnet's prefix: 10.0.0.1/24.
package struct InterfaceAddress: Hashable, Sendable {
  package var address: IPAddress
  /// Bits of the subnet's prefix, 0...32 for IPv4 and 0...128 for IPv6.
  package var prefixLength: UInt8

  package init(_ address: IPAddress, prefixLength: UInt8) {
    self.address = address
    self.prefixLength = prefixLength
  }
}

extension InterfaceAddress: CustomStringConvertible {
  package var description: String { "\(address)/\(prefixLength)" }
}

/// Who gave a device an address, as the kernel remembers it (`IFA_PROTO` of <linux/if_addr.h>,
/// since Linux 5.18).
///
/// Newer versions of `ip address` show it as `proto`. The kernel uses 1 to 3 for its own.
package struct AddressMark: RawRepresentable, Hashable, Sendable {
  package let rawValue: UInt8
  package init(rawValue: UInt8) { self.rawValue = rawValue }

  /// Nobody who says so: what `ip address add` gives.
  package static let none = AddressMark(rawValue: 0)
  /// ovx-vswitchd, for an address of the configuration.
  package static let ovx = AddressMark(rawValue: 111)
}

extension Netlink {
  /// The addresses of a device.
  package mutating func addresses(of link: Link) throws(LinuxError) -> [InterfaceAddress] {
    try markedAddresses(of: link).map(\.address)
  }

  /// The addresses of all devices, each with its device's index.
  package mutating func allAddresses() throws(LinuxError) -> [(
    linkIndex: Int32, address: InterfaceAddress
  )] {
    try markedAddresses(of: nil).map { ($0.linkIndex, $0.address) }
  }

  /// The addresses of a device, and who gave it each of them.
  package mutating func marksOfAddresses(
    of link: Link
  ) throws(LinuxError) -> [InterfaceAddress: AddressMark] {
    let addresses = try markedAddresses(of: link).map { ($0.address, $0.mark) }
    return Dictionary(addresses, uniquingKeysWith: { first, _ in first })
  }

  /// The addresses of a device that somebody has lent it for a time: a DHCP client, or a router by
  /// what it advertises.
  package mutating func leasedAddresses(of link: Link) throws(LinuxError) -> [InterfaceAddress] {
    try markedAddresses(of: link).filter { !$0.isPermanent }.map(\.address)
  }

  /// The addresses of a device by which the host can be reached from further than its own link.
  package mutating func widerAddresses(of link: Link) throws(LinuxError) -> [InterfaceAddress] {
    try markedAddresses(of: link).filter { $0.scope < RT_SCOPE_LINK.rawValue }.map(\.address)
  }

  private struct MarkedAddress: Hashable, Sendable {
    var linkIndex: Int32
    var address: InterfaceAddress
    var mark: AddressMark
    /// How far the address is known, `RT_SCOPE_...`: less is farther.
    var scope: UInt32
    /// Whether it stays until somebody takes it away.
    var isPermanent: Bool
  }

  private mutating func markedAddresses(
    of link: Link?
  ) throws(LinuxError) -> [MarkedAddress] {
    var family = ifaddrmsg()
    family.ifa_index = UInt32(bitPattern: link?.index ?? 0)
    return try dump(
      NetlinkRequest(type: Int(RTM_GETADDR), flags: NLM_F_DUMP, family: family),
      for: Purpose(action: "list the addresses of", subject: link?.name ?? "all devices"),
      key: \.self
    ) { message in
      // The kernel leaves out the other devices' addresses; one that does not know how, does not.
      guard message.type == Int(RTM_NEWADDR), let header = message.family(as: ifaddrmsg.self),
        link == nil || header.ifa_index == family.ifa_index
      else { return nil }
      var local: IPAddress?
      var address: IPAddress?
      var mark = AddressMark.none
      message.forEachAttribute(after: MemoryLayout<ifaddrmsg>.size) { type, value in
        // On a point-to-point device IFA_ADDRESS is the other end; IPv6 has no IFA_LOCAL elsewhere.
        if type == Int(IFA_LOCAL) { local = value.ipAddress }
        if type == Int(IFA_ADDRESS) { address = value.ipAddress }
        if type == Int(IFA_PROTO) { mark = AddressMark(rawValue: value.uint8 ?? 0) }
      }
      return (local ?? address).map {
        MarkedAddress(
          linkIndex: Int32(bitPattern: header.ifa_index),
          address: InterfaceAddress($0, prefixLength: header.ifa_prefixlen), mark: mark,
          scope: UInt32(header.ifa_scope),
          isPermanent: UInt32(header.ifa_flags) & UInt32(IFA_F_PERMANENT) != 0)
      }
    }
  }

  /// Gives a device an address.
  ///
  /// An IPv6 address can be bound at once: no duplicate address detection (`IFA_F_NODAD`), whose
  /// answer would come too late for a container that starts by connecting somewhere.
  ///
  /// - Parameters:
  ///   - address: The address and its network.
  ///   - link: The device.
  ///   - mark: Who gives it, for the kernel to remember.
  /// - Throws: `EEXIST` where the device has the address already.
  package mutating func add(
    _ address: InterfaceAddress,
    to link: Link,
    mark: AddressMark = .none
  ) throws(LinuxError) {
    let purpose = Purpose(action: "add \(address) to", subject: link.name) { errno in
      switch errno {
      case .fileExists: "the device has this address already"
      case .invalidArgument: "a prefix has at most \(address.address.isIPv6 ? 128 : 32) bits"
      case .permissionDenied where address.address.isIPv6:
        "IPv6 is disabled on this device (net.ipv6.conf.\(link.name).disable_ipv6)"
      default: nil
      }
    }
    var request = Self.request(Int(RTM_NEWADDR), NLM_F_CREATE | NLM_F_EXCL, address, link)
    if mark != .none { request.put(Int(IFA_PROTO), bytes: [mark.rawValue]) }
    try transact(request, for: purpose)
  }

  /// Takes an address from a device.
  ///
  /// - Throws: `EADDRNOTAVAIL` where the device does not have it.
  package mutating func remove(
    _ address: InterfaceAddress,
    from link: Link
  ) throws(LinuxError) {
    try transact(
      Self.request(Int(RTM_DELADDR), 0, address, link),
      for: Purpose(action: "remove \(address) from", subject: link.name)
    )
  }

  private static func request(
    _ type: Int,
    _ flags: Int32,
    _ address: InterfaceAddress,
    _ link: Link
  ) -> NetlinkRequest {
    var family = ifaddrmsg()
    family.ifa_family = UInt8(truncatingIfNeeded: address.address.family)
    family.ifa_prefixlen = address.prefixLength
    family.ifa_index = UInt32(bitPattern: link.index)
    if address.address.isIPv6 { family.ifa_flags = UInt8(truncatingIfNeeded: IFA_F_NODAD) }
    var request = NetlinkRequest(type: type, flags: flags, family: family)
    request.put(Int(IFA_LOCAL), address.address)
    request.put(Int(IFA_ADDRESS), address.address)
    return request
  }
}

extension IPAddress {
  /// `AF_INET` or `AF_INET6`.
  var family: Int32 { isIPv6 ? AF_INET6 : AF_INET }
}
