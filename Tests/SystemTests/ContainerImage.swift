import Foundation

extension Lab {
  /// A file system with a busybox and nothing else, as an archive for container engines to import.
  func containerImage() throws -> String {
    let found = try Command([
      Lab.packageRoot.appendingPathComponent("deploy/find-busybox").path
    ]).finish(seconds: 120)
    guard found.succeeded else { throw LabError(found.standardError) }
    let busybox = found.standardOutput.trimmingCharacters(in: .whitespacesAndNewlines)
    let archive = directory.appendingPathComponent("image.tar").path
    let made = try Command([
      "sh", "-c",
      """
      set -e; mkdir -p "$2/image/bin"; cp "$1" "$2/image/bin/busybox"
      for name in sh sleep ping ip; do ln -s busybox "$2/image/bin/$name"; done
      tar -C "$2/image" -cf "$3" .
      """,
      "sh", busybox, directory.path, archive,
    ]).finish(seconds: 20)
    guard made.succeeded else { throw LabError(made.standardError) }
    return archive
  }
}
