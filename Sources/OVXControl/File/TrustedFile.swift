private import Glibc
package import SystemPackage

/// Files that nobody but this process's user, or root, can have put where they are.
///
/// The daemon is root, and writes to paths that it was given. Where somebody else can rename or
/// replace anything on the way there, he chooses what is written to. So every directory of a path
/// has to be root's or this user's own, and closed to others, or like `/tmp`, in which nobody
/// renames what is not his (sticky). A symbolic link has to belong to one of the two as well, and
/// so has the file itself, which must not be one.
package enum TrustedFile {
  /// Symbolic links on one path at most, as for the kernel (`MAXSYMLINKS` of <linux/namei.h>).
  private static let linkLimit = 40

  /// Checks a directory and all above it.
  ///
  /// - Parameters:
  ///   - directory: An absolute path; a relative one begins where the process is.
  ///   - isClosed: It must not even be like `/tmp`, as files of well-known names are to be in it.
  /// - Throws: Who else could replace what is in it, and the remedy; what the kernel says where it
  ///   cannot be looked at.
  package static func checkDirectory(
    _ directory: FilePath, isClosed: Bool = false
  ) throws(ControlError) {
    var walked = FilePath("/")
    let absolute = directory.isAbsolute ? directory : FilePath("/proc/self/cwd").pushing(directory)
    var rest = Array(absolute.components.map(\.string).reversed())
    var links = 0
    try check(walked, mayBeSticky: !isClosed || !rest.isEmpty)
    while let name = rest.popLast() {
      if name == "." { continue }
      if name == ".." {
        walked.removeLastComponent()
        continue
      }
      let path = walked.appending(name)
      var status = stat()
      guard unsafe lstat(path.string, &status) == 0 else {
        throw ControlError("\(path): \(Errno(rawValue: errno))")
      }
      guard status.st_mode & S_IFMT == S_IFLNK else {
        walked = path
        try check(path, mayBeSticky: !isClosed || !rest.isEmpty)
        continue
      }
      try checkOwner(status, of: path)
      links += 1
      guard links <= linkLimit, let target = target(of: path) else {
        throw ControlError("\(path): \(Errno.tooManySymbolicLinkLevels)")
      }
      if target.isAbsolute { walked = "/" }
      rest += target.components.map(\.string).reversed()
    }
    // The path may end in "..", whose directory was only passed through.
    try check(walked, mayBeSticky: !isClosed)
  }

  private static func check(_ directory: FilePath, mayBeSticky: Bool) throws(ControlError) {
    var status = stat()
    guard unsafe lstat(directory.string, &status) == 0 else {
      throw ControlError("\(directory): \(Errno(rawValue: errno))")
    }
    guard status.st_mode & S_IFMT == S_IFDIR else {
      throw ControlError("\(directory): \(Errno.notDirectory)")
    }
    try checkOwner(status, of: directory)
    let isSticky = mayBeSticky && status.st_mode & S_ISVTX != 0
    guard status.st_mode & (S_IWGRP | S_IWOTH) == 0 || isSticky else {
      throw ControlError(
        "others may write to \(directory) (mode \(String(status.st_mode & 0o7777, radix: 8))), and so put "
          + "any file in the place of one of the daemon's"
          + (status.st_mode & S_ISVTX != 0 ? "; make one of its own" : "; chmod go-w it"))
    }
  }

  private static func checkOwner(_ status: stat, of path: FilePath) throws(ControlError) {
    guard status.st_uid == 0 || status.st_uid == geteuid() else {
      throw ControlError(
        "\(path) belongs to user \(status.st_uid), who could put any file in the place of one of the "
          + "daemon's; chown it to root")
    }
  }

  private static func target(of link: FilePath) -> FilePath? {
    var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
    let count = unsafe readlink(link.string, &buffer, buffer.count)
    guard count > 0, count < buffer.count else { return nil }
    return FilePath(String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self))
  }

  /// What a path may lead to.
  package enum Kind {
    /// A regular file.
    case file
    /// That, or something else that bytes can be written to without end: a FIFO or a character
    /// device.
    case stream
  }

  /// Opens a file of a directory that has been checked.
  ///
  /// Never follows a symbolic link, and never waits for the other end of a FIFO.
  ///
  /// - Parameters:
  ///   - path: The file; a symbolic link is refused.
  ///   - mode: How to open it.
  ///   - options: Beside those that are always set.
  ///   - permissions: What a file that is made gets, less the umask.
  ///   - isPrivate: An existing file is given the same permissions, where it has more.
  ///   - kind: What it may be.
  /// - Returns: A descriptor that does not block, the caller's to close.
  /// - Throws: What is wrong with it.
  package static func open(
    _ path: FilePath, _ mode: FileDescriptor.AccessMode,
    options: FileDescriptor.OpenOptions = [], permissions: FilePermissions? = nil,
    isPrivate: Bool = false, kind: Kind = .file
  ) throws(Errno) -> FileDescriptor {
    let file: FileDescriptor
    do {
      file = try FileDescriptor.open(
        path, mode, options: options.union([.noFollow, .closeOnExec, .nonBlocking]),
        permissions: permissions)
    } catch {
      throw error as? Errno ?? .ioError
    }
    do throws(Errno) {
      var status = stat()
      guard unsafe fstat(file.rawValue, &status) == 0 else { throw Errno(rawValue: errno) }
      switch status.st_mode & S_IFMT {
      case S_IFREG: break
      case S_IFIFO where kind == .stream, S_IFCHR where kind == .stream: break
      case S_IFDIR: throw .isDirectory
      default: throw .invalidArgument
      }
      guard status.st_uid == 0 || status.st_uid == geteuid() else { throw .permissionDenied }
      if isPrivate, let permissions,
        status.st_mode & 0o777 & ~mode_t(permissions.rawValue) != 0
      {
        // Refused only where the file system is read-only, and then nobody can make use of more.
        _ = fchmod(file.rawValue, mode_t(permissions.rawValue))
      }
      return file
    } catch {
      try? file.close()
      throw error
    }
  }

  /// Replaces a file as a whole with a text.
  package static func replace(
    _ path: FilePath, with text: String, permissions: FilePermissions
  ) throws(Errno) {
    try replace(path, with: Array(text.utf8), permissions: permissions)
  }

  /// Replaces a file as a whole: whoever reads it meanwhile sees the old content or the new one.
  ///
  /// - Parameters:
  ///   - path: In a directory that has been checked; where there is something else than a regular
  ///     file, it stays.
  ///   - content: All of it.
  ///   - permissions: What the file gets, less the umask.
  /// - Throws: The kernel's reason.
  package static func replace(
    _ path: FilePath, with content: [UInt8], permissions: FilePermissions
  ) throws(Errno) {
    var status = stat()
    if unsafe lstat(path.string, &status) == 0 {
      guard status.st_mode & S_IFMT != S_IFDIR else { throw .isDirectory }
      guard status.st_mode & S_IFMT != S_IFLNK else { throw .tooManySymbolicLinkLevels }
      guard status.st_mode & S_IFMT == S_IFREG else { throw .invalidArgument }
    }
    let new = path.string + ".new"
    unsafe unlink(new)
    let file = try open(
      FilePath(new), .writeOnly, options: [.create, .exclusiveCreate], permissions: permissions)
    do {
      try file.closeAfter { _ = try file.writeAll(content) }
    } catch {
      unsafe unlink(new)
      throw error as? Errno ?? .ioError
    }
    guard unsafe rename(new, path.string) == 0 else { throw Errno(rawValue: errno) }
  }

  /// Copies a file as a whole, for its owner only.
  ///
  /// - Throws: The kernel's reason; there is no copy then.
  package static func copy(_ path: FilePath, to copy: FilePath) throws(Errno) {
    let source = try open(path, .readOnly)
    defer { try? source.close() }
    unsafe unlink(copy.string)
    let target = try open(
      copy, .writeOnly, options: [.create, .exclusiveCreate], permissions: .ownerReadWrite)
    do {
      try target.closeAfter {
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
          let count = unsafe try buffer.withUnsafeMutableBytes { unsafe try source.read(into: $0) }
          if count == 0 { break }
          _ = try target.writeAll(buffer.prefix(count))
        }
      }
    } catch {
      unsafe unlink(copy.string)
      throw error as? Errno ?? .ioError
    }
  }
}
