import Glibc
import OVXDatapath
import OVXLinux
import SystemPackage
import Testing

extension KernelTests {
  @Suite struct TAPTests {
    @Test func `negotiates all offloads of this kernel`() throws {
      let host = try Scene.anonymous()
      let tap = try host.perform { () throws(LinuxError) in
        try TAP.open(name: "tap0", persistent: false)
      }
      #expect(tap.capabilities == .all)
      #expect(tap.name == "tap0")
      let number = tap.takeQueues()
      #expect(fcntl(number.first, F_GETFL) & O_NONBLOCK != 0)
      #expect(fcntl(number.first, F_GETFD) & FD_CLOEXEC != 0)
    }

    @Test func `a persistent one outlives its descriptor, and goes when it is removed`() throws {
      let host = try Scene.anonymous()
      func index() throws -> UInt32? {
        try host.perform { () throws(LinuxError) in InterfaceIndex(name: "tap0")?.rawValue }
      }
      func open() throws {
        _ = try host.perform { () throws(LinuxError) in
          try TAP.open(name: "tap0", persistent: true).takeQueues()
        }
      }
      try open()
      let first = try #require(try index())
      try open()
      #expect(try index() == first)
      try host.perform { () throws(LinuxError) in try TAP.remove(name: "tap0") }
      #expect(try index() == nil)
      try host.perform { () throws(LinuxError) in try TAP.remove(name: "tap0") }
    }

    @Test func `opened as not persistent, it goes with its descriptor`() throws {
      let host = try Scene.anonymous()
      try host.perform { () throws(LinuxError) in
        _ = try TAP.open(name: "tap0", persistent: true).takeQueues()
        _ = try TAP.open(name: "tap0", persistent: false).takeQueues()
      }
      #expect(try host.perform { () throws(LinuxError) in InterfaceIndex(name: "tap0") } == nil)
    }

    @Test func `says who is in the way`() throws {
      let host = try Scene.anonymous()
      let tap = try host.perform { () throws(LinuxError) in
        try TAP.open(name: "tap0", persistent: false)
      }
      func refusal(_ name: String) -> LinuxError? {
        do throws(LinuxError) {
          try host.perform { () throws(LinuxError) in
            _ = try TAP.open(name: name, persistent: false)
          }
          return nil
        } catch {
          return error
        }
      }
      let busy = try #require(refusal("tap0"))
      #expect(busy.errno == .resourceBusy)
      #expect(busy.description.contains("tap0"))
      let foreign = try #require(refusal("lo"))
      #expect(foreign.errno == .invalidArgument)
      let long = try #require(refusal("an-interface-name"))
      #expect(long.description.contains("1 to 15 bytes"))
      #expect(refusal("") != nil)
      #expect(tap.capabilities == .all)
    }
  }
}
