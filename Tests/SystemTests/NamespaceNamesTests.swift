import Foundation
import Glibc
import Testing

extension SystemTests {
  /// Who gives routers' namespaces their names does that, and nothing else for anybody who gets
  /// hold of its socket.
  @Suite struct NamespaceNamesTests {
    /// Asks for names as nobody of ovx does; each line is what was answered: 0, or what refuses it.
    private static let asker = #"""
      import errno, os, socket, sys
      path, prefix = sys.argv[1:]

      def ask(name, *files):
          with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as end:
              end.connect(path)
              if files:
                  socket.send_fds(end, [name], list(files))
              else:
                  end.send(name)
              answer = int.from_bytes(end.recv(4), sys.byteorder, signed=True)
          return errno.errorcode[-answer] if answer else "0"

      own = os.open("/proc/self/ns/net", os.O_RDONLY)
      other = os.open("/proc/self/ns/mnt", os.O_RDONLY)
      plain = os.open("/etc/passwd", os.O_RDONLY)
      good = prefix.encode() + b"x\0"
      print("stranger", ask(b"ovx-stranger\0", own))
      print("elsewhere", ask(prefix.encode() + b"/../../../tmp/x\0", own), ask(prefix.encode() + b"/../x\0"))
      print("endless", ask(good[:-1], own), ask(good + b"y\0", own), ask(prefix.encode() * 40 + b"\0", own))
      print("other", ask(good, other), ask(good, plain), ask(good, own, own))
      print("nobody", ask(good))
      print("twice", ask(good, own), ask(good, own))
      print("back", ask(good), ask(good))
      """#

    @Test func namesAreOfRoutersAlone() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let socket = "\(host.rundir)/names.socket"
        let prefix = "\(Lab.prefix)r-"
        let server = try Command([
          "unshare", "--net", "systemd-socket-activate", "--accept", "--seqpacket", "-l", socket,
          "--", "/usr/bin/python3", "\(Lab.traffic)/confined.py",
          Lab.packageRoot.appendingPathComponent("deploy/ovx-names@.service").path,
          "\(Lab.binaries)/ovx-broker", "names", prefix,
        ])
        defer {
          server.signal(SIGTERM)
          _ = server.wait(seconds: 5)
        }
        try eventually("it listens") { FileManager.default.fileExists(atPath: socket) }
        try Self.asker.write(
          toFile: "\(host.rundir)/asker.py", atomically: true, encoding: .utf8)
        let answers = try Command([
          "/usr/bin/python3", "\(host.rundir)/asker.py", socket, prefix,
        ]).finish(seconds: 30)
        #expect(
          answers.standardOutput == """
            stranger EPERM
            elsewhere EPERM EPERM
            endless EPERM EPERM EPERM
            other EINVAL EINVAL EPERM
            nobody 0
            twice 0 EEXIST
            back 0 0

            """, "\(answers)")
        #expect(!FileManager.default.fileExists(atPath: "/run/netns/\(prefix)x"))
      }
    }
  }
}
