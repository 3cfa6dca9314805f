/// Settings that the kernel offers only as files, for the network namespace that the process is in.
package enum ProcSettings {
  /// Switches IPv6 off on a device, or back to what new devices have.
  ///
  /// Where the kernel has no IPv6, nothing is to do.
  package static func setIPv6(_ isEnabled: Bool, on device: String) {
    let directory = "/proc/sys/net/ipv6/conf"
    let value = isEnabled ? read("\(directory)/default/disable_ipv6") : "1"
    if let value { write(value, "\(directory)/\(device)/disable_ipv6") }
  }

  /// Whether a device of the calling thread's network namespace passes IPv6 packets on, as a router does.
  package static func forwardsIPv6(on device: String) -> Bool {
    read("/proc/sys/net/ipv6/conf/\(device)/forwarding").map { $0 != "0" } ?? false
  }

  /// Has the host take addresses and routes from IPv6 routers that it hears by a device, or take none.
  ///
  /// With 2 a host takes them also where it forwards itself. Where the kernel has no IPv6, nothing is to do.
  package static func acceptRouterAdvertisements(_ isAccepting: Bool, on device: String) {
    let directory = "/proc/sys/net/ipv6/conf/\(device)"
    write(isAccepting ? "2" : "0", "\(directory)/accept_ra")
    write(isAccepting ? "1" : "0", "\(directory)/autoconf")
  }

  /// Has the host keep what it knows of its neighbors on a device while that has no carrier, where the kernel can (5.16).
  ///
  /// A TAP has none while no process has it open. Without this a daemon that is killed takes all neighbors with it, and who
  /// asks for one before the next daemon is there asks again a second later.
  package static func keepNeighborsWithoutCarrier(on device: String) {
    write("0", family: "ipv4", device: device, "arp_evict_nocarrier")
    write("0", family: "ipv6", device: device, "ndisc_evict_nocarrier")
  }

  /// Whether a device has IPv6, or will have it when it is made.
  ///
  /// - Parameters:
  ///   - device: Its name.
  ///   - namespace: Where it is; `nil` for the namespace that the process is in.
  /// - Returns: Whether it has; `true` where that cannot be found out.
  package static func hasIPv6(on device: String, in namespace: NetworkNamespace? = nil) -> Bool {
    func look() -> Bool {
      let directory = "/proc/sys/net/ipv6/conf"
      let isDisabled =
        read("\(directory)/\(device)/disable_ipv6") ?? read("\(directory)/default/disable_ipv6")
      // Without the file the kernel has none.
      return isDisabled.map { $0 == "0" } ?? false
    }
    guard let namespace else { return look() }
    // One that cannot be looked into is taken to have it.
    return (try? namespace.perform { () throws(LinuxError) in look() }) ?? true
  }

  /// Whether a setting of a device, or of `all`, is on; `false` where the kernel does not have it.
  ///
  /// - Parameters:
  ///   - family: "ipv4" or "ipv6".
  ///   - device: The device's name.
  ///   - name: The setting's.
  /// - Returns: Whether it is another number than 0.
  package static func isOn(family: String, device: String, _ name: String) -> Bool {
    read("/proc/sys/net/\(family)/conf/\(device)/\(name)").map { $0 != "0" } ?? false
  }

  /// Gives a setting of a device, or of `all`, a value, in the calling thread's network namespace.
  ///
  /// Where the kernel does not have it, nothing is to do; where it has the value, nothing is done, as some settings of `all`
  /// change those of all devices when they are written.
  package static func write(_ value: String, family: String, device: String, _ name: String) {
    let path = "/proc/sys/net/\(family)/conf/\(device)/\(name)"
    if let present = read(path), present != value { write(value, path) }
  }

  /// The release of the running kernel.
  package static var kernelRelease: String { read("/proc/sys/kernel/osrelease") ?? "unknown" }

  private static func read(_ path: String) -> String? {
    Files.read(path).map { String($0.prefix { !$0.isNewline }) }
  }

  private static func write(_ value: String, _ path: String) {
    try? Files.write(value, to: path)
  }
}
