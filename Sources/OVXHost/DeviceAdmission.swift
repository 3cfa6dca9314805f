internal import OVXControl
internal import OVXLinux
private import SystemPackage

// Which devices of the host can be ports.

extension HostKernel {
  /// An existing device that can be a port.
  func deviceForPort(_ name: String, _ ownership: DeviceOwnership) throws(LinuxError) -> Link {
    func refusal(_ detail: String, _ remedy: String? = nil) -> LinuxError {
      LinuxError(
        action: "use", subject: name, errno: .invalidArgument, detail: detail, remedy: remedy)
    }
    guard let link = links[name] else {
      throw LinuxError(
        action: "use", subject: name, errno: .operationNotSupportedByDevice,
        detail: "this host has no network device of that name",
        remedy: "the port is in service as soon as there is one")
    }
    if link.flags.contains(.loopback) {
      throw refusal("it is the loopback device", "add another one")
    }
    if link.kind == "veth", ownership.isOurs(link) {
      throw refusal(
        "it is the host's end of a container's interface, and a port already",
        "`ovx-ctl show --links` tells of which")
    }
    if !link.isEthernet { throw refusal("it is no Ethernet device") }
    // One that was the switch's before somebody put it there stays the switch's, as while a daemon
    // runs.
    if let master = masterName(of: link), try !isIsolated(link, by: ownership.filter) {
      throw refusal("it is part of \(master) already", Self.remedy(forMasterOf: link))
    }
    return link
  }

  /// The bridge or bond of the kernel's that a device is part of.
  private func masterName(of link: Link) -> String? {
    link.master.map { self.link($0)?.name ?? "device \($0)" }
  }

  private static func remedy(forMasterOf link: Link) -> String {
    "take it out with `ip link set \(link.name) nomaster`"
  }

  /// Makes sure that the host does not lose addresses with a device that is to be a port's.
  ///
  /// One that belongs to the switch already has lost them. Others the host has elsewhere from then
  /// on.
  func checkAddresses(
    of link: Link, exceptFor displaced: HostPlace, _ filter: StackFilter
  ) throws(LinuxError) {
    let kept = displaced.addresses.map(OVXLinux.InterfaceAddress.init)
    guard let address = try widerAddresses(of: link).first(where: { !kept.contains($0) }),
      try !isIsolated(link, by: filter)
    else { return }
    throw LinuxError(
      action: "use", subject: link.name, errno: .addressInUse,
      detail: "it has the address \(address), by which the host could not be reached any more",
      remedy: remedy(link))
  }

  /// What is to be said of the addresses that the device of a port has, and of what it is part of.
  func remark(on link: Link) throws(LinuxError) -> Fault? {
    if let master = masterName(of: link) {
      return .partial(
        "its device is part of \(master), too, which neither hears nor sends by it, as the device is "
          + "the switch's; \(Self.remedy(forMasterOf: link))")
    }
    guard let address = try widerAddresses(of: link).first else { return nil }
    return Fault(
      "the address \(address) on its device does not work, as the device is the switch's; "
        + remedy(link), isTransient: true)
  }

  private func remedy(_ link: Link) -> String {
    "add it with migrate=true, by which the host keeps it on the bridge's own device (in a file: address "
      + "and routes of the bridge's own port)"
  }
}
