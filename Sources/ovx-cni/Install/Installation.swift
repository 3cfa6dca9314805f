private import Glibc
private import SystemPackage

/// `ovx-cni --install DIRECTORY [--configure DIRECTORY FILE]`: how the plugin gets from a container
/// image to the host, whose container engine runs it, with a list of plugins that names it.
///
/// Each file is replaced in one step, the plugin first: whoever runs it or reads the list meanwhile
/// has the old one or the new one. What is there already stays untouched, as engines look at their
/// lists anew whenever one is written.
struct Installation: Equatable {
  /// Where engines look for plugins.
  var plugins: String
  /// Where they look for lists of plugins, and the list; `nil` for none.
  var configuration: Configuration?

  struct Configuration: Equatable {
    var directory: String
    var file: String
  }

  private static let usage =
    "ovx-cni is run by container engines, without arguments; ovx-cni --install DIRECTORY [--configure DIRECTORY FILE] puts it, "
    + "and the list of plugins FILE, where they look"

  /// Reads the arguments behind the program's name.
  ///
  /// - Throws: Code 4 where they are others.
  init(_ arguments: [String]) throws(PluginError) {
    let isComplete = arguments.count == 5 && arguments[2] == "--configure"
    guard arguments.first == "--install", arguments.count == 2 || isComplete else {
      throw PluginError(.badEnvironment, Self.usage)
    }
    plugins = arguments[1]
    if isComplete { configuration = Configuration(directory: arguments[3], file: arguments[4]) }
  }

  /// Puts all of it in its place.
  ///
  /// - Parameter program: The plugin's file, which must need no other.
  /// - Returns: What was put where, sentences; none where all was there.
  /// - Throws: What is wrong with the list, before anything is done; what the kernel refuses.
  func carryOut(program: String = "/proc/self/exe") throws(PluginError) -> [String] {
    var list: (name: String, bytes: [UInt8])?
    if let configuration { list = try Self.list(configuration.file) }
    let plugin = try Self.read(program, limit: 1 << 30)
    guard !Self.needsOthers(plugin) else {
      throw PluginError(
        .refused,
        "this ovx-cni needs libraries that the host may not have; install the one of the package, /usr/lib/cni/ovx-cni"
      )
    }
    var done = try Self.put(plugin, as: "ovx-cni", in: plugins, mode: 0o755)
    if let configuration, let list {
      done += try Self.put(list.bytes, as: list.name, in: configuration.directory, mode: 0o644)
    }
    return done
  }

  /// Reads a list of plugins, and refuses one that would not work.
  private static func list(_ file: String) throws(PluginError) -> (String, [UInt8]) {
    let name = file.split(separator: "/").last.map(String.init) ?? ""
    guard name.hasSuffix(".conflist"), name.utf8.count < 200, !name.hasPrefix(".") else {
      throw PluginError(
        .badEnvironment,
        "engines take \(file) for no list of plugins; its name has to end with .conflist")
    }
    let bytes = try read(file, limit: StandardStreams.limit)
    let json = try JSON(parsing: bytes, as: file)
    guard let plugins = json["plugins"]?.arrayValue,
      let own = plugins.first(where: { $0["type"]?.textValue == "ovx-cni" }),
      var members = own.objectValue
    else {
      throw PluginError(
        .invalidConfiguration,
        "\(file) has no plugin of \"type\": \"ovx-cni\" among its \"plugins\"")
    }
    // As an engine puts it together (specification, section 3).
    for inherited in ["name", "cniVersion"] { members[inherited] = json[inherited] }
    do throws(PluginError) {
      _ = try NetworkConfiguration(.object(members), runDirectory: nil)
    } catch {
      throw PluginError(number: error.code, "\(file): \(error.message)", details: error.details)
    }
    return (name, bytes)
  }

  /// Whether a program of ELF asks for an interpreter, the dynamic linker.
  static func needsOthers(_ bytes: [UInt8]) -> Bool {
    func number(at offset: Int, bytes count: Int) -> Int {
      guard offset >= 0, offset + count <= bytes.count else { return 0 }
      return (0..<count).reduce(0) { $0 | Int(bytes[offset + $1]) << (8 * $1) }
    }
    guard bytes.starts(with: [0x7F, 0x45, 0x4C, 0x46, 2, 1]) else { return true }
    // e_phoff, e_phentsize and e_phnum of elf(5), then each p_type.
    let (start, size, count) = (
      number(at: 32, bytes: 4), number(at: 54, bytes: 2), number(at: 56, bytes: 2)
    )
    return (0..<count).contains { number(at: start + $0 * size, bytes: 4) == Int(PT_INTERP) }
  }

  // MARK: Files

  private static func failure(_ action: String, _ path: String, _ errno: Errno) -> PluginError {
    PluginError(.inputOutput, "cannot \(action) \(path): \(errno)")
  }

  private static func read(_ path: String, limit: Int) throws(PluginError) -> [UInt8] {
    do {
      let file = try FileDescriptor.open(FilePath(path), .readOnly, options: .closeOnExec)
      defer { try? file.close() }
      var bytes: [UInt8] = []
      var buffer = [UInt8](repeating: 0, count: 1 << 20)
      while true {
        let count = unsafe try buffer.withUnsafeMutableBytes { unsafe try file.read(into: $0) }
        if count == 0 { return bytes }
        bytes += buffer[..<count]
        guard bytes.count <= limit else { throw Errno.fileTooLarge }
      }
    } catch {
      throw failure("read", path, error as? Errno ?? .ioError)
    }
  }

  /// Puts a file in the place of another, and on the disk.
  private static func put(
    _ bytes: [UInt8], as name: String, in directory: String, mode: mode_t
  ) throws(PluginError) -> [String] {
    let path = "\(directory)/\(name)"
    var status = stat()
    let isThere = unsafe lstat(path, &status) == 0
    if isThere, status.st_mode == S_IFREG | mode, status.st_size == bytes.count,
      try read(path, limit: bytes.count) == bytes
    {
      return []
    }
    guard !isThere || status.st_mode & S_IFMT != S_IFDIR else {
      throw failure("replace", path, .isDirectory)
    }
    // No engine takes a file of such a name.
    let new = "\(directory)/.\(name).new"
    unsafe unlink(new)
    do {
      let file = try FileDescriptor.open(
        FilePath(new), .writeOnly,
        options: [.create, .exclusiveCreate, .closeOnExec, .noFollow],
        permissions: .ownerReadWrite)
      // Nobody can run a file that somebody has open to write, so it is closed by the time when it
      // has its name.
      try file.closeAfter {
        _ = try file.writeAll(bytes)
        guard fchmod(file.rawValue, mode) == 0, fsync(file.rawValue) == 0 else {
          throw Errno(rawValue: errno)
        }
      }
      guard unsafe rename(new, path) == 0 else { throw Errno(rawValue: errno) }
    } catch {
      unsafe unlink(new)
      throw failure("write", path, error as? Errno ?? .ioError)
    }
    if let place = try? FileDescriptor.open(FilePath(directory), .readOnly, options: .directory) {
      fsync(place.rawValue)
      try? place.close()
    }
    return ["\(path) is \(isThere ? "replaced" : "there")"]
  }
}
