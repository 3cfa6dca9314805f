package import OVXLinux
private import SystemPackage

/// Tells the devices that this daemon made from everybody else's.
///
/// Nothing without its mark is ever removed.
///
/// The mark is the device's alias, "ovx:" and the database whose configuration it was made for; so
/// daemons with configurations of their own leave each other's devices alone. Devices in containers
/// cannot be found by looking, as any process may have a namespace; they are noted (`NoteFile`)
/// before they are made.
package final class DeviceOwnership {
  package let mark: String
  /// Keeps the host's network stack off the devices of ports.
  package let filter: StackFilter
  /// The veths of others that have their MTU from us.
  let adopted: AdoptedVeths
  private let file: NoteFile
  package private(set) var noted: Set<DesiredState.ContainerInterface>

  /// Reads the notes of a former daemon.
  package init(database: String, rundir: String) {
    // An alias has 255 bytes at most (IFALIASZ of <linux/if.h>).
    mark = "ovx:" + String(decoding: Array(database.utf8).suffix(250), as: UTF8.self)
    filter = StackFilter(owner: mark)
    adopted = AdoptedVeths(rundir: rundir)
    file = NoteFile(rundir + "/container-devices")
    noted = Set(file.lines.compactMap(Self.interface))
  }

  /// Whether a device of the host was made for this daemon's configuration.
  package func isOurs(_ link: Link) -> Bool {
    (link.kind == "tun" || link.kind == "veth") && link.alias == mark
  }

  /// Refuses a device that somebody else made.
  package func check(_ link: Link) throws(LinuxError) {
    guard !isOurs(link) else { return }
    let other = link.alias.flatMap { $0.hasPrefix("ovx:") ? $0.dropFirst(4) : nil }
    throw LinuxError(
      action: "make", subject: link.name, errno: .fileExists,
      detail: other.map { "it belongs to the ovx-vswitchd with the database \($0)" }
        ?? "a network device of that name exists, and ovx has not made it",
      remedy: "choose another name")
  }

  /// Notes a device in a container, before it is made.
  package func note(_ interface: DesiredState.ContainerInterface) {
    guard noted.insert(interface).inserted else { return }
    // What is lost where this fails is the clean-up after a crash between two steps, for one
    // device.
    file.append(Self.line(interface))
  }

  /// Forgets devices in containers, after they were removed.
  package func forget(_ interfaces: [DesiredState.ContainerInterface]) {
    let count = noted.count
    noted.subtract(interfaces)
    // Where this fails, what stays in it is looked for once more after a crash, in vain.
    if noted.count != count { file.replace(with: noted.map(Self.line)) }
  }

  /// One device each line: the interface's name, which has no space, and the container's.
  private static func line(_ interface: DesiredState.ContainerInterface) -> String {
    "\(interface.name) \(interface.target)"
  }

  private static func interface(_ line: Substring) -> DesiredState.ContainerInterface? {
    let parts = line.split(separator: " ", maxSplits: 1)
    guard parts.count == 2 else { return nil }
    return DesiredState.ContainerInterface(target: String(parts[1]), name: String(parts[0]))
  }
}
