import CLinux
import Glibc
import Testing

@testable import OVXLinux

@Suite struct RingTests {
  @Test func `a tag's parts come out as they went in`() {
    var random = SystemRandomNumberGenerator()
    for _ in 0..<1000 {
      let index = UInt32.random(in: 0..<1 << 24, using: &random)
      let detail = UInt16.random(in: .min ... .max, using: &random)
      let generation = UInt16.random(in: .min ... .max, using: &random)
      for kind in [CompletionTag.Kind.read, .readable, .train] {
        let packed = CompletionTag(kind, index: index, detail: detail, generation: generation)
        let tag = CompletionTag(rawValue: packed.rawValue)
        #expect(tag.kind == kind)
        #expect(tag.index == Int(index))
        #expect(tag.detail == detail)
        #expect(tag.generation == generation)
      }
    }
  }

  @Test func `every request completes, once and in order, however many there are`() throws {
    var ring = try Ring(fileLimit: 4)
    var completed: [Int] = []
    // Three times what the queue holds: the ring has to make room by itself.
    for number in 0..<800 {
      guard let request = unsafe ring.nextRequest() else { throw RingIsDead() }
      unsafe ovx_prepare_nop(request, CompletionTag(.read, index: UInt32(number)).rawValue)
    }
    ring.submit()
    while let completion = ring.nextCompletion() {
      #expect(completion.result == 0)
      completed.append(completion.tag.index)
    }
    #expect(completed == Array(0..<800))
    let (hasPending, failure) = (ring.hasPending, ring.failure)
    #expect(!hasPending)
    #expect(failure == nil)
  }

  @Test func `a poll completes each time that something becomes readable`() throws {
    var ring = try Ring(fileLimit: 4)
    let event = Descriptor(owning: ovx_event_open())
    let file = try ring.register(event.rawValue, "an event")
    guard let request = unsafe ring.nextRequest() else { throw RingIsDead() }
    unsafe ovx_prepare_poll(request, file, CompletionTag(.readable, index: 7).rawValue)
    ring.submit()
    var further = ring.nextCompletion()
    #expect(further == nil)
    for _ in 0..<3 {
      ovx_event_raise(event.rawValue)
      ring.wait()
      guard let completion = ring.nextCompletion() else { throw RingIsDead() }
      #expect(completion.tag.index == 7)
      #expect(completion.result & POLLIN != 0)
      #expect(completion.hasMore)
      further = ring.nextCompletion()
      #expect(further == nil)
    }
  }

  @Test func `a timeout ends a wait`() throws {
    var ring = try Ring(fileLimit: 1)
    let interval = UnsafeMutablePointer<__kernel_timespec>.allocate(capacity: 1)
    defer { unsafe interval.deallocate() }
    unsafe interval.initialize(to: __kernel_timespec(tv_sec: 0, tv_nsec: 20_000_000))
    guard let request = unsafe ring.nextRequest() else { throw RingIsDead() }
    unsafe ovx_prepare_timeout(request, interval, CompletionTag(.tick).rawValue)
    let start = ContinuousClock.now
    ring.wait()
    #expect(ContinuousClock.now - start >= .milliseconds(19))
    guard let completion = ring.nextCompletion() else { throw RingIsDead() }
    #expect(completion.tag.kind == .tick)
    #expect(completion.errno == ETIME)
  }

  @Test func `a full file table is explained`() throws {
    var ring = try Ring(fileLimit: 1)
    let event = Descriptor(owning: ovx_event_open())
    let file = try ring.register(event.rawValue, "an event")
    #expect(file == 0)
    do throws(LinuxError) {
      _ = try ring.register(event.rawValue, "port 3")
      Issue.record("the second file found a place in a table of one")
    } catch {
      #expect(error.description.contains("port 3"))
      #expect(error.description.contains("LimitNOFILE"))
    }
    ring.unregister(file)
    let again = try ring.register(event.rawValue, "an event")
    #expect(again == 0)
  }

  @Test func `a closed ring takes nothing and completes nothing`() throws {
    var ring = try Ring(fileLimit: 1)
    ring.close()
    let hasRequest = unsafe ring.nextRequest() != nil
    #expect(!hasRequest)
    ring.submit()
    ring.wait()
    let completion = ring.nextCompletion()
    #expect(completion == nil)
    do throws(LinuxError) {
      _ = try ring.register(0, "port 3")
      Issue.record("a closed ring registered a file")
    } catch {
      #expect(error.description.contains("port 3"))
    }
  }
}

private struct RingIsDead: Error {}
