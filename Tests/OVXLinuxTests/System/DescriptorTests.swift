import Glibc
import OVXLinux
import Testing

@Suite struct DescriptorTests {
  private func isOpen(_ number: Int32) -> Bool { fcntl(number, F_GETFD) >= 0 }

  @Test func `closes when its owner lets go`() throws {
    let number = dup(0)
    try #require(number >= 0)
    do {
      let descriptor = Descriptor(owning: number)
      #expect(isOpen(descriptor.rawValue))
    }
    #expect(!isOpen(number))
  }

  @Test func `stays open when it is released`() throws {
    let number = dup(0)
    try #require(number >= 0)
    let released = Descriptor(owning: number).release()
    #expect(released == number)
    #expect(isOpen(number))
    close(number)
  }
}
