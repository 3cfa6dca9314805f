private import Glibc
package import OVXDatapath

/// What a host's switch handed to the kernel, copied at the moment it did.
package enum Sent: Equatable {
  /// A frame for a device.
  case frame(PartialFrame, port: PortID)
  /// One datagram for a remote VTEP: a VXLAN header and a frame, and what is asked of its outer
  /// header.
  case datagram([UInt8], path: UnderlaySocketID, port: PortID, outer: OuterHeader = .plain)
}

/// One host: a switch, and the part of its workers and of the kernel that it sees.
///
/// Received bytes are copied into buffers with guard bytes on both sides of what the switch may
/// write to, as the worker's slots would hold them. What the switch hands out within a burst is
/// copied at once; what it hands out at the end of one is copied as late as the contract allows,
/// when the next frame is received, and then the buffers are overwritten. So a write out of bounds
/// shows in `violations`, a late read and a hasty change in the bytes.
@safe
package final class SimulatedHost {
  private let workers: [SimulatedWorker]
  /// How the switch broke its contract with the worker, in words.
  ///
  /// A test expects none.
  package private(set) var violations: [String] = []
  package private(set) var topology = Topology()

  /// The switch of the first worker.
  package var datapath: Datapath {
    _read { yield workers[0].datapath }
    _modify { yield &workers[0].datapath }
  }

  /// Makes a host that has just been started; the seed decides how much room its buffers leave.
  package init(_ topology: Topology = Topology(), workers count: Int = 1, seed: UInt64) {
    var random = SeededRandom(seed: seed)
    let exchange = UpdateExchange(count)
    workers = (0..<count).map { number in
      let publish: FDBUpdate.Publish = { updates in unsafe exchange.publish(updates, by: number) }
      return unsafe SimulatedWorker(
        count > 1 ? publish : nil, learning: { exchange.updates(for: number) }, seed: random.next())
    }
    apply(topology)
  }

  package func apply(_ topology: Topology) {
    self.topology = topology
    for worker in workers { worker.apply(topology) }
    collectViolations()
  }

  package func tick(now: UInt32) {
    for worker in workers { worker.tick(now: now) }
  }

  /// Receives a frame within the current burst.
  package func receive(_ frame: PartialFrame, tag: VLANTag = .none, from port: PortID) {
    worker(for: frame.bytes.prefix(12)).receive(frame, tag: tag, from: port)
    collectViolations()
  }

  /// Receives a train of datagrams within the current burst.
  package func receive(
    train: [UInt8],
    segmentSize: Int,
    on endpoint: ListenerID,
    from remote: IPAddress,
    trafficClass: UInt8 = 0
  ) {
    worker(for: train.dropFirst(8).prefix(12)).receive(
      train: train, segmentSize: segmentSize, on: endpoint, from: remote,
      trafficClass: trafficClass)
    collectViolations()
  }

  /// Ends the burst: everything is handed out.
  package func endBurst() {
    for worker in workers { worker.endBurst() }
  }

  /// Gives away what was handed out so far.
  package func takeSent() -> [Sent] {
    var sent = workers[0].takeSent()
    for worker in workers.dropFirst() { sent += worker.takeSent() }
    collectViolations()
    return sent
  }

  /// Who gets what begins with these Ethernet addresses: both directions of a conversation the same
  /// one.
  private func worker(for addresses: some Collection<UInt8>) -> SimulatedWorker {
    let sum = addresses.reduce(0) { $0 &+ Int($1) }
    return workers[sum % workers.count]
  }

  private func collectViolations() {
    for worker in workers { violations += worker.takeViolations() }
  }
}

/// What the workers of a host have published and the others have not yet learned.
@safe
private final class UpdateExchange {
  private var waiting: [[FDBUpdate]]

  init(_ count: Int) { waiting = Array(repeating: [], count: count) }

  func publish(_ updates: UnsafeBufferPointer<FDBUpdate>, by sender: Int) {
    for receiver in waiting.indices where receiver != sender {
      unsafe waiting[receiver].append(contentsOf: updates)
    }
  }

  func updates(for receiver: Int) -> [FDBUpdate] {
    defer { waiting[receiver] = [] }
    return waiting[receiver]
  }
}

/// One worker of a host.
@safe
private final class SimulatedWorker {
  private var sent: [Sent] = []
  private var violations: [String] = []
  var datapath: Datapath
  private let updates: () -> [FDBUpdate]
  private let outbox: Outbox
  private var buffers: [Buffer] = []
  private var isBurstOver = false
  private var random: SeededRandom

  init(_ publish: FDBUpdate.Publish?, learning updates: @escaping () -> [FDBUpdate], seed: UInt64) {
    let outbox = Outbox()
    self.outbox = outbox
    self.updates = updates
    datapath = unsafe Datapath(
      publish: publish,
      flush: { transmissions, vectors in
        unsafe outbox.accept(transmissions, vectors)
      })
    random = SeededRandom(seed: seed)
  }

  func apply(_ topology: Topology) {
    settle()
    learn()
    datapath.apply(topology)
    collect()
  }

  func tick(now: UInt32) {
    learn()
    datapath.tick(now: now)
  }

  private func learn() {
    for update in updates() { datapath.learn(update) }
  }

  func receive(_ frame: PartialFrame, tag: VLANTag, from port: PortID) {
    settle()
    learn()
    let buffer = makeBuffer(frame.bytes)
    unsafe datapath.receiveFrame(
      buffer.start,
      count: frame.bytes.count,
      offload: frame.offload,
      tag: tag,
      from: port
    )
    collect()
  }

  func receive(
    train: [UInt8],
    segmentSize: Int,
    on endpoint: ListenerID,
    from remote: IPAddress,
    trafficClass: UInt8
  ) {
    settle()
    learn()
    let buffer = makeBuffer(train)
    unsafe datapath.receiveDatagrams(
      buffer.start,
      count: train.count,
      segmentSize: segmentSize,
      on: endpoint,
      from: remote,
      trafficClass: trafficClass
    )
    collect()
  }

  func endBurst() {
    outbox.isDeferring = true
    datapath.endBurst()
    outbox.isDeferring = false
    isBurstOver = true
  }

  func takeSent() -> [Sent] {
    settle()
    defer { sent = [] }
    return sent
  }

  func takeViolations() -> [String] {
    defer { violations.removeAll() }
    return violations
  }

  /// Carries out what the last burst left to be sent, and takes its buffers back.
  private func settle() {
    guard isBurstOver else { return }
    isBurstOver = false
    outbox.settle()
    collect()
    for buffer in buffers {
      if let violation = buffer.brokenGuard { violations.append(violation) }
      buffer.overwrite()
    }
    buffers.removeAll(keepingCapacity: true)
  }

  private func collect() {
    if sent.isEmpty {
      swap(&sent, &outbox.sent)
    } else {
      sent += outbox.sent
    }
    violations += outbox.violations
    outbox.sent.removeAll(keepingCapacity: true)
    outbox.violations.removeAll(keepingCapacity: true)
  }

  private func makeBuffer(_ bytes: [UInt8]) -> Buffer {
    let buffer = Buffer(bytes, spare: random.oneIn(2) ? 0 : random.below(512))
    buffers.append(buffer)
    return buffer
  }
}

/// A worker's slot: guard, headroom, bytes, spare room, guard.
///
/// With AddressSanitizer in the program what is no business of the switch cannot even be read.
@safe
private final class Buffer {
  private static let guardSize = 64
  private static let headroom = 64
  private static let guardOctet: UInt8 = 0xC9

  private let memory: UnsafeMutableRawBufferPointer
  let capacity: Int

  init(_ bytes: [UInt8], spare: Int) {
    capacity = bytes.count + spare
    let size = capacity + Self.headroom + 2 * Self.guardSize
    unsafe memory = .allocate(byteCount: size, alignment: 64)
    unsafe memory.initializeMemory(as: UInt8.self, repeating: Self.guardOctet)
    unsafe UnsafeMutableRawBufferPointer(start: start, count: capacity).copyBytes(from: bytes)
    guard let sanitizer = AddressSanitizer.current, let base = unsafe memory.baseAddress else {
      return
    }
    unsafe sanitizer.poison(base, Self.guardSize)
    unsafe sanitizer.poison(start + bytes.count, base + size - (start + bytes.count))
  }

  @unsafe var start: UnsafeMutableRawPointer {
    let offset = Self.guardSize + Self.headroom
    return unsafe UnsafeMutableRawPointer(memory.baseAddress.unsafelyUnwrapped) + offset
  }

  /// What is wrong with the guard bytes, if anything.
  ///
  /// The sanitizer has seen that by itself.
  var brokenGuard: String? {
    guard AddressSanitizer.current == nil else { return nil }
    let front = unsafe memory.prefix(Self.guardSize).allSatisfy { $0 == Self.guardOctet }
    let back = unsafe memory.suffix(Self.guardSize).allSatisfy { $0 == Self.guardOctet }
    if front && back { return nil }
    return "The switch wrote \(front ? "behind the capacity" : "in front of the headroom") of a "
      + "buffer of \(capacity) bytes."
  }

  func overwrite() {
    unpoison()
    unsafe memory.initializeMemory(as: UInt8.self, repeating: 0xA5)
  }

  private func unpoison() {
    guard let base = unsafe memory.baseAddress else { return }
    unsafe AddressSanitizer.current?.unpoison(base, memory.count)
  }

  deinit {
    unpoison()
    unsafe memory.deallocate()
  }
}

/// The part of AddressSanitizer's interface that marks memory as out of bounds
/// (<sanitizer/asan_interface.h>).
@safe
private struct AddressSanitizer: Sendable {
  typealias Mark = @convention(c) @Sendable (UnsafeRawPointer, Int) -> Void

  let poison: Mark
  let unpoison: Mark

  /// That of the running program; `nil` where it was built without.
  static let current: AddressSanitizer? = {
    guard let poison = unsafe dlsym(nil, "__asan_poison_memory_region"),
      let unpoison = unsafe dlsym(nil, "__asan_unpoison_memory_region")
    else { return nil }
    return unsafe AddressSanitizer(
      poison: unsafeBitCast(poison, to: Mark.self),
      unpoison: unsafeBitCast(unpoison, to: Mark.self))
  }()
}

/// Plays the kernel's side of `Datapath.Flush`: copies, and checks what a system call would refuse.
@safe
private final class Outbox {
  /// UDP_MAX_SEGMENTS of <linux/udp.h> on kernel 6.18.
  private static let segmentLimit = 128
  /// The largest payload of one UDP send over IPv4.
  private static let payloadLimit = 65507

  var sent: [Sent] = []
  var violations: [String] = []
  /// Whether what is handed out is only copied by `settle`, as a worker sends it with the next
  /// burst's reads.
  var isDeferring = false
  private var deferredTransmissions: UnsafeBufferPointer<Transmission>?
  private var deferredVectors: UnsafePointer<Vector>?

  func accept(
    _ transmissions: UnsafeBufferPointer<Transmission>,
    _ vectors: UnsafePointer<Vector>
  ) {
    settle()
    if isDeferring {
      unsafe deferredTransmissions = transmissions
      unsafe deferredVectors = vectors
    } else {
      unsafe copy(transmissions, vectors)
    }
  }

  func settle() {
    guard let transmissions = unsafe deferredTransmissions, let vectors = unsafe deferredVectors
    else { return }
    unsafe deferredTransmissions = nil
    unsafe deferredVectors = nil
    unsafe copy(transmissions, vectors)
  }

  private func copy(
    _ transmissions: UnsafeBufferPointer<Transmission>,
    _ vectors: UnsafePointer<Vector>
  ) {
    for position in 0..<transmissions.count {
      let transmission = unsafe transmissions[position]
      var header: [UInt8] = []
      var bytes: [UInt8] = []
      bytes.reserveCapacity(Int(transmission.byteCount))
      for index in 0..<Int(transmission.vectorCount) {
        let vector = unsafe vectors[Int(transmission.firstVector) + index]
        let part = unsafe UnsafeRawBufferPointer(start: vector.base, count: vector.count)
        if index == 0, transmission.kind == .frame {
          unsafe header = Array(part)
        } else {
          unsafe bytes.append(contentsOf: part)
        }
      }
      switch transmission.kind {
      case .frame: acceptFrame(transmission, header: header, bytes)
      case .datagrams: acceptDatagrams(transmission, bytes)
      case .injected: acceptInjected(transmission, bytes)
      }
    }
  }

  private func acceptFrame(_ transmission: Transmission, header: [UInt8], _ bytes: [UInt8]) {
    guard let offload = Offload(virtioHeader: header) else {
      violations.append("A frame's first vector is not its virtio-net header.")
      return
    }
    if offload != transmission.offload {
      violations.append("The virtio-net header in memory is not the one in the transmission.")
    }
    if bytes.count != Int(transmission.byteCount) {
      violations.append("A frame's byte count is \(transmission.byteCount), not \(bytes.count).")
    }
    sent.append(.frame(PartialFrame(bytes, offload: offload), port: transmission.port))
  }

  /// A superframe that leaves whole arrives as one datagram.
  private func acceptInjected(_ transmission: Transmission, _ bytes: [UInt8]) {
    if bytes.count != Int(transmission.byteCount) || bytes.count < InjectionHeader.byteCount {
      violations.append("A superframe to inject has \(bytes.count) bytes.")
      return
    }
    sent.append(
      .datagram(
        Array(bytes[InjectionHeader.payloadOffset...]), path: transmission.path,
        port: transmission.port))
  }

  private func acceptDatagrams(_ transmission: Transmission, _ bytes: [UInt8]) {
    if bytes.count != Int(transmission.byteCount) {
      violations.append("A train's byte count is \(transmission.byteCount), not \(bytes.count).")
    }
    let size =
      transmission.segmentSize == 0 ? max(bytes.count, 1) : Int(transmission.segmentSize)
    let datagrams = stride(from: 0, to: bytes.count, by: size).map {
      Array(bytes[$0..<min($0 + size, bytes.count)])
    }
    if bytes.isEmpty || bytes.count > Self.payloadLimit {
      violations.append("A send of \(bytes.count) bytes: the kernel takes 1 to 65507.")
    }
    if datagrams.count > Self.segmentLimit {
      violations.append("A train of \(datagrams.count) datagrams: the kernel takes 128.")
    }
    if transmission.frameCount == 0 || Int(transmission.frameCount) > datagrams.count {
      violations.append(
        "A train of \(datagrams.count) datagrams claims \(transmission.frameCount) frames."
      )
    }
    sent += datagrams.map {
      .datagram(
        $0, path: transmission.path, port: transmission.port, outer: transmission.outer)
    }
  }
}

extension Offload {
  /// Reads `struct virtio_net_hdr`, little-endian; `nil` where it is not 10 bytes long.
  package init?(virtioHeader octets: [UInt8]) {
    guard octets.count == Offload.byteCount else { return nil }
    func field(_ offset: Int) -> UInt16 { UInt16(octets[offset]) | UInt16(octets[offset + 1]) << 8 }
    self.init(
      flags: Flags(rawValue: octets[0]),
      segmentation: Segmentation(rawValue: octets[1]),
      headerLength: field(2),
      segmentSize: field(4),
      checksumStart: field(6),
      checksumOffset: field(8)
    )
  }
}
