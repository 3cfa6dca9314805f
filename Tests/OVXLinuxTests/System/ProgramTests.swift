private import Glibc
private import OVXLinux
private import SystemPackage
import Testing

@Suite struct ProgramTests {
  private func shell(_ script: String) throws(LinuxError) -> ProgramOutput {
    try run("/bin/sh", ["-c", script], until: .now + .seconds(10))
  }

  @Test func `output, errors and status come back`() throws {
    let said = try shell("echo out; echo err >&2; exit 7")
    #expect((said.output, said.errors, said.status) == ("out\n", "err\n", 7))
    #expect(try shell("kill -TERM $$").status == 128 + SIGTERM)
  }

  @Test func `arguments arrive as they are`() throws {
    let words = ["a b", "*", "$HOME", "'", "", "ä"]
    let output = try run(
      "/bin/sh",
      ["-c", "for word; do echo \"$word\"; done", "sh"] + words,
      until: .now + .seconds(10)
    )
    #expect(output.output == words.map { "\($0)\n" }.joined())
    let zero = try message { () throws(LinuxError) in
      _ = try run("/bin/echo", ["a\0b"], until: .now + .seconds(10))
    }
    #expect(zero.errno == .invalidArgument)
  }

  @Test func `more output than is kept does not stop the program`() throws {
    let output = try shell("head -c 1000000 /dev/zero | tr '\\0' x; exit 3")
    #expect(output.status == 3)
    #expect(output.output.utf8.count == 16 << 10)
  }

  @Test func `only three descriptors get there, and the input is empty`() throws {
    let inherited = unsafe open("/dev/null", O_RDONLY)
    defer { close(inherited) }
    // The fourth is the directory that ls reads.
    let listed = try run("/bin/ls", ["/proc/self/fd"], until: .now + .seconds(10))
    #expect(listed.output == "0\n1\n2\n3\n")
    #expect(try shell("cat").output.isEmpty)
  }

  @Test func `what cannot be run is an error`() throws {
    let missing = try message { () throws(LinuxError) in
      _ = try run("/nowhere/program", [], until: .now + .seconds(10))
    }
    #expect(missing.description == "cannot run /nowhere/program: No such file or directory")
  }
}
