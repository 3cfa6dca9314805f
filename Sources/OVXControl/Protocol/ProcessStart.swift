private import Glibc
private import SystemPackage

/// What a program was given when it was started.
package enum ProcessStart {
  /// The words of the command line behind the program's name.
  ///
  /// They come from the kernel. Swift's `CommandLine` looks for them beside the environment, and
  /// finds none where a library that was loaded first (`LD_PRELOAD`) has changed that.
  package static let arguments: [String] = {
    // Where there is no /proc, only Swift has them.
    guard
      let file = try? FileDescriptor.open(
        FilePath("/proc/self/cmdline"), .readOnly, options: .closeOnExec)
    else { return Array(CommandLine.arguments.dropFirst()) }
    defer { try? file.close() }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = unsafe chunk.withUnsafeMutableBytes { unsafe (try? file.read(into: $0)) ?? 0 }
      if count == 0 { break }
      bytes += chunk[..<count]
    }
    return words(of: bytes)
  }()

  /// Takes a command line apart as the kernel shows it: each word ends with a zero byte.
  ///
  /// - Returns: The words behind the first, the program's name.
  package static func words(of line: [UInt8]) -> [String] {
    line.split(separator: 0, omittingEmptySubsequences: false).dropLast().dropFirst()
      .map { String(decoding: $0, as: UTF8.self) }
  }

  /// Opens what is closed of the standard input, output and error, on nothing.
  ///
  /// Otherwise the next file that is opened would get its number, and be written what is meant for
  /// people.
  package static func openStandardStreams() {
    while let file = try? FileDescriptor.open(FilePath("/dev/null"), .readWrite) {
      if file.rawValue > 2 {
        try? file.close()
        return
      }
    }
  }

  /// Runs a program that serves in tasks, at the priority that programs have.
  ///
  /// The task that an asynchronous `main` runs in has a higher one, and with it all that it starts
  /// and waits for: their threads are given lower nice values (setpriority(2)). A server need not
  /// go before others, and who is not root is refused that, which the runtime tells on standard
  /// error for each thread.
  ///
  /// - Parameter main: The program, as it is given the words of the command line.
  package static func serve(_ main: @escaping @Sendable ([String]) async -> Void) -> Never {
    openStandardStreams()
    Task.detached(priority: .medium) {
      await main(arguments)
      exit(0)
    }
    // The main queue would go on at that higher priority, and nothing is waiting for it.
    while true { pause() }
  }
}
