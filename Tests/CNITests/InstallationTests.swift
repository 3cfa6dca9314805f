import Foundation
import Testing

@testable import ovx_cni

/// How the plugin is put where engines look for it.
@Suite struct InstallationTests {
  private final class Host {
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent("ovx-\(UUID())")
    init() throws {
      for name in ["bin", "net.d", "image"] {
        try FileManager.default.createDirectory(
          at: directory.appendingPathComponent(name), withIntermediateDirectories: true)
      }
      try write("image/plugin", Host.program)
      try write("image/10-ovx.conflist", Host.list)
    }
    deinit { try? FileManager.default.removeItem(at: directory) }

    func path(_ name: String) -> String { directory.appendingPathComponent(name).path }
    func write(_ name: String, _ bytes: [UInt8]) throws {
      try Data(bytes).write(to: directory.appendingPathComponent(name))
    }
    func read(_ name: String) -> [UInt8]? {
      (try? Data(contentsOf: directory.appendingPathComponent(name))).map { [UInt8]($0) }
    }
    func files(_ name: String) throws -> [String] {
      try FileManager.default.contentsOfDirectory(atPath: path(name)).sorted()
    }

    func install(_ file: String = "image/10-ovx.conflist") throws -> [String] {
      try Installation(["--install", path("bin"), "--configure", path("net.d"), path(file)])
        .carryOut(program: path("image/plugin"))
    }

    func refusal(_ list: String) throws -> String {
      try write("image/20.conflist", [UInt8](list.utf8))
      do { _ = try install("image/20.conflist") } catch {
        return (error as? PluginError)?.message ?? ""
      }
      return ""
    }

    /// A program of ELF that has one segment, of a kind, and is as long as one.
    static func program(_ kind: UInt8) -> [UInt8] {
      var bytes = [UInt8](repeating: 0, count: 4096)
      bytes.replaceSubrange(0..<6, with: [0x7F, 0x45, 0x4C, 0x46, 2, 1])
      bytes[32] = 64
      bytes[54] = 56
      bytes[56] = 1
      bytes[64] = kind
      return bytes
    }
    static let program = program(1)
    static let list = [UInt8](
      #"{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ovx-cni", "network": "pods"}]}"#
        .utf8)
  }

  @Test func filesAreReplacedWhole() throws {
    let host = try Host()
    #expect(try host.install().count == 2)
    #expect(
      host.read("bin/ovx-cni") == Host.program && host.read("net.d/10-ovx.conflist") == Host.list)
    #expect(try host.files("bin") == ["ovx-cni"] && host.files("net.d") == ["10-ovx.conflist"])
    let attributes = try FileManager.default.attributesOfItem(atPath: host.path("bin/ovx-cni"))
    #expect(attributes[.posixPermissions] as? Int == 0o755)
    // What is there stays, file by file.
    #expect(try host.install() == [])
    let number = attributes[.systemFileNumber] as? Int
    try host.write("image/10-ovx.conflist", Host.list + [10])
    #expect(try host.install() == ["\(host.path("net.d"))/10-ovx.conflist is replaced"])
    // Somebody else's is replaced, and so is a link, which is not followed.
    try host.write("bin/ovx-cni", [1, 2, 3])
    try FileManager.default.removeItem(atPath: host.path("net.d/10-ovx.conflist"))
    try FileManager.default.createSymbolicLink(
      atPath: host.path("net.d/10-ovx.conflist"), withDestinationPath: host.path("image/plugin"))
    // What a former one that was killed has left.
    try host.write("bin/.ovx-cni.new", [1])
    #expect(try host.install().count == 2)
    #expect(host.read("bin/ovx-cni") == Host.program && host.read("image/plugin") == Host.program)
    #expect(try host.files("bin") == ["ovx-cni"])
    let after = try FileManager.default.attributesOfItem(atPath: host.path("bin/ovx-cni"))
    #expect(after[.systemFileNumber] as? Int != nil && number != nil)
  }

  @Test func whatWouldNotWorkIsRefusedAndNothingIsDone() throws {
    let host = try Host()
    #expect(try host.refusal("{").contains("is not JSON"))
    #expect(try host.refusal("{}").contains("has no plugin of"))
    #expect(try host.refusal(#"{"plugins": [{"type": "bridge"}]}"#).contains("has no plugin of"))
    #expect(
      try host.refusal(
        #"{"name": "pods", "cniVersion": "9.0.0", "plugins": [{"type": "ovx-cni"}]}"#
      )
      .contains("the cniVersion \"9.0.0\""))
    #expect(
      try host.refusal(
        #"{"cniVersion": "1.0.0", "plugins": [{"type": "ovx-cni", "network": "a"}]}"#
      )
      .contains("has no \"name\""))
    try host.write("image/x.json", Host.list)
    #expect(throws: PluginError.self) { try host.install("image/x.json") }
    #expect(throws: PluginError.self) { try host.install("image/nothing.conflist") }
    try host.write("image/plugin", Host.program(3))
    do { _ = try host.install() } catch {
      #expect("\(error)".contains("needs libraries"))
    }
    try host.write("image/plugin", [])
    #expect(throws: PluginError.self) { try host.install() }
    #expect(try host.files("bin").isEmpty && host.files("net.d").isEmpty)
    try host.write("image/plugin", Host.program)
    try FileManager.default.createDirectory(
      atPath: host.path("bin/ovx-cni"), withIntermediateDirectories: false)
    #expect(throws: PluginError.self) { try host.install() }
    try FileManager.default.removeItem(atPath: host.path("bin"))
    #expect(throws: PluginError.self) { try host.install() }
  }

  @Test func programsOfElfAreReadWithinTheirBounds() {
    #expect(!Installation.needsOthers(Host.program) && Installation.needsOthers(Host.program(3)))
    for count in 0..<200 { _ = Installation.needsOthers(Array(Host.program(3).prefix(count))) }
    var wild = Host.program(3)
    for offset in [32, 33, 34, 35, 54, 55, 56, 57] { wild[offset] = 0xFF }
    #expect(!Installation.needsOthers(wild))
  }

  @Test func otherArgumentsAreRefused() {
    for words in [
      ["--help"], ["--install"], ["--install", "a", "b"], ["--install", "a", "--configure", "b"],
      ["--install", "a", "--configur", "b", "c"],
    ] {
      #expect(throws: PluginError.self) { try Installation(words) }
    }
    #expect(throws: Never.self) { try Installation(["--install", "/opt/cni/bin"]) }
  }
}
