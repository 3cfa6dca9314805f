internal import OVXControl
internal import OVXLinux
private import Glibc
private import SystemPackage

/// The two programs that do what a gateway needs of the kernel beside its devices: `ip netns` and
/// `nft`.
struct Tools {
  private let ipPath: String
  /// The socket of who gives and takes back names of namespaces, where a service manager starts
  /// that; `nil` where it is done here, in the host's mount namespace.
  private let names: String?
  private let nft: String
  /// Where a transaction of nft is written, which it reads.
  private let scriptPath: FilePath
  /// Where our own files are, root's alone: dnsmasq and nft do what they say.
  let directory: String
  /// Where the host's resolvers stand.
  let resolvConf: String
  /// How long one of them may take.
  private static let patience = Duration.seconds(30)

  /// Finds the programs.
  ///
  /// - Parameters:
  ///   - directory: For our own files.
  ///   - resolvConf: Where the host's resolvers stand.
  /// - Throws: Which one is not installed, and where it is from; who else could replace files of
  ///   the directory, such as the switch's user, to whom all tenants speak.
  init(directory: String, resolvConf: String) throws(ControlError) {
    self.directory = directory
    self.resolvConf = resolvConf
    names = unsafe getenv("OVX_NAMES").map { unsafe String(cString: $0) }
    ipPath = try Self.find("ip", package: "iproute2")
    nft = try Self.find("nft", package: "nftables")
    scriptPath = FilePath(directory).appending("gatewayd.nft")
    do throws(ControlError) {
      try TrustedFile.checkDirectory(FilePath(directory), isClosed: true)
    } catch {
      throw ControlError("\(error.message), or name a directory of root's with --directory")
    }
  }

  private static func find(_ name: String, package: String) throws(ControlError) -> String {
    guard let path = OVXLinux.find(program: name, in: searchPath) else {
      throw ControlError(
        "\(name) is not installed, which gateways need; Debian has it in the package \(package)")
    }
    return path
  }

  /// dnsmasq's path; `nil` where it is not installed, which only networks with DHCP or DNS need.
  var dnsmasq: String? { OVXLinux.find(program: "dnsmasq", in: Self.searchPath) }

  /// Where programs of the system are.
  static let searchPath = "/usr/sbin:/sbin:/usr/bin:/bin"

  /// Runs a program that must succeed; gives what it printed.
  static func run(_ path: String, _ arguments: [String]) throws(LinuxError) -> String {
    let output = try OVXLinux.run(path, arguments, until: .now + patience)
    guard output.status == 0 else {
      let name = path.split(separator: "/").last.map(String.init) ?? path
      let words = output.errors.split(separator: "\n").prefix(3).joined(separator: " ")
      throw LinuxError(
        action: "run", subject: "\(name) \(arguments.prefix(3).joined(separator: " "))",
        errno: .ioError, detail: words.isEmpty ? "it ended with \(output.status)" : words)
    }
    return output.output
  }

  /// Runs ip(8), which must succeed; gives what it printed.
  @discardableResult
  func ip(_ words: String...) throws(LinuxError) -> String { try Self.run(ipPath, words) }

  /// Makes a network namespace with a name that all of the host see.
  func addNamespace(_ name: String) throws(LinuxError) -> NetworkNamespace {
    if let names {
      try NetworkNamespace.anonymous().give(name, by: names)
    } else {
      try ip("netns", "add", name)
    }
    return try NetworkNamespace(named: name)
  }

  func deleteNamespace(_ name: String) throws(LinuxError) {
    guard let names else {
      try ip("netns", "delete", name)
      return
    }
    try NetworkNamespace.takeBack(name, by: names)
  }

  /// Carries out a transaction of nft in the calling thread's network namespace.
  func filter(_ script: String) throws(LinuxError) {
    do throws(Errno) {
      try TrustedFile.replace(scriptPath, with: script, permissions: .ownerReadWrite)
    } catch {
      throw LinuxError(action: "write", subject: scriptPath.string, errno: error)
    }
    defer { _ = try? Files.remove(scriptPath.string) }
    _ = try Self.run(nft, ["-f", scriptPath.string])
  }

  /// Removes the table where it is there.
  func removeFilter() throws(LinuxError) {
    try filter("table inet ovx\ndelete table inet ovx\n")
  }

  /// The host's table as nft tells it, without counters; `nil` where there is none.
  func hostFilter() -> String? { try? Self.run(nft, ["-s", "list", "table", "inet", "ovx"]) }

  /// What nft prints; `nil` where it prints nothing, such as of a table that is not there.
  func list(_ words: String...) -> String? { list(words) }

  func list(_ words: [String]) -> String? { try? Self.run(nft, ["list"] + words) }
}
