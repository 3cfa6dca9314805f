private import Glibc
private import SystemPackage

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

  /// Whether a device passes IPv6 packets on, as a router does; `namespace` is where it is, `nil`
  /// for the process's own.
  package static func forwardsIPv6(on device: String, in namespace: NetworkNamespace? = nil) -> Bool
  {
    read("/proc/sys/net/ipv6/conf/\(device)/forwarding", namespace).map { $0 != "0" } ?? false
  }

  /// Has the host take addresses and routes from IPv6 routers that it hears by a device, or take
  /// none.
  ///
  /// With 2 a host takes them also where it forwards itself. Where the kernel has no IPv6, nothing
  /// is to do.
  package static func acceptRouterAdvertisements(_ isAccepting: Bool, on device: String) {
    let directory = "/proc/sys/net/ipv6/conf/\(device)"
    write(isAccepting ? "2" : "0", "\(directory)/accept_ra")
    write(isAccepting ? "1" : "0", "\(directory)/autoconf")
  }

  /// Has the host keep what it knows of its neighbors on a device while that has no carrier, where
  /// the kernel can (5.16).
  ///
  /// A TAP has none while no process has it open. Without this a daemon that is killed takes all
  /// neighbors with it, and who asks for one before the next daemon is there asks again a second
  /// later.
  ///
  /// - Parameters:
  ///   - device: Its name.
  ///   - namespace: Where it is; `nil` for the namespace that the process is in.
  package static func keepNeighborsWithoutCarrier(
    on device: String, in namespace: NetworkNamespace? = nil
  ) {
    write("0", family: "ipv4", device: device, "arp_evict_nocarrier", in: namespace)
    write("0", family: "ipv6", device: device, "ndisc_evict_nocarrier", in: namespace)
  }

  /// Whether a device has IPv6, or will have it when it is made.
  ///
  /// - Parameters:
  ///   - device: Its name.
  ///   - namespace: Where it is; `nil` for the namespace that the process is in.
  /// - Returns: Whether it has; `true` where that cannot be found out.
  package static func hasIPv6(on device: String, in namespace: NetworkNamespace? = nil) -> Bool {
    let directory = "/proc/sys/net/ipv6/conf"
    do throws(LinuxError) {
      for name in [device, "default"] {
        guard let isDisabled = try settled("\(directory)/\(name)/disable_ipv6", namespace) else {
          continue
        }
        return isDisabled == "0"
      }
      // Without the file the kernel has none.
      return false
    } catch {
      return true
    }
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

  /// Gives a setting of a device, or of `all`, a value, in the process's network namespace or
  /// another one.
  ///
  /// Where the kernel does not have it, nothing is to do; where it has the value, nothing is done,
  /// as some settings of `all` change those of all devices when they are written.
  package static func write(
    _ value: String, family: String, device: String, _ name: String,
    in namespace: NetworkNamespace? = nil
  ) {
    let path = "/proc/sys/net/\(family)/conf/\(device)/\(name)"
    guard let present = read(path, namespace), present != value else { return }
    write(value, path, namespace)
  }

  /// Who may use io_uring (`kernel.io_uring_disabled`): everybody for 0, few for 1, nobody for 2;
  /// `nil` before Linux 6.6, which has no such setting.
  package static var ioUringPolicy: Int? {
    read("/proc/sys/kernel/io_uring_disabled").flatMap { Int($0) }
  }

  /// The release of the running kernel.
  package static var kernelRelease: String { read("/proc/sys/kernel/osrelease") ?? "unknown" }

  private static func read(_ path: String, _ namespace: NetworkNamespace? = nil) -> String? {
    (try? settled(path, namespace)) ?? nil
  }

  /// The value of a setting; `nil` where there is no such file.
  ///
  /// - Throws: That a namespace cannot be looked into.
  private static func settled(
    _ path: String, _ namespace: NetworkNamespace?
  ) throws(LinuxError) -> String? {
    let text: String?
    if let namespace {
      do throws(LinuxError) {
        let file = try namespace.open(.setting(path: path))
        text = FileDescriptor(rawValue: file.rawValue).readAll(limit: 4096)
      } catch {
        guard error.errno == .noSuchFileOrDirectory else { throw error }
        return nil
      }
    } else {
      text = Files.read(path)
    }
    return text.map { String($0.prefix { !$0.isNewline }) }
  }

  private static func write(
    _ value: String, _ path: String, _ namespace: NetworkNamespace? = nil
  ) {
    do {
      // Also in the process's own namespace: a service sees no such file that it could write to.
      let file =
        if let namespace {
          try namespace.open(.setting(path: path))
        } else {
          try NetworkNamespace.openHere(.setting(path: path))
        }
      _ = unsafe Glibc.write(file.rawValue, value, value.utf8.count)
    } catch {
      // A kernel without it needs nothing.
    }
  }
}
