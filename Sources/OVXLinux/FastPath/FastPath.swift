private import CLinux
internal import OVXDatapath
private import Synchronization
package import SystemPackage

/// Programs in the kernel that repeat the switch's decisions for TCP, without waking it: see
/// fastpath.bpf.c.
///
/// One for all workers. Each puts in what it has decided (`OffloadedFlows`), and revokes it by
/// `generations`, which are in memory that the programs read. The programs hang on devices by links
/// that end with the process, whatever becomes of it.
///
/// To hang one on a device takes the kernel 10 to 20 ms, so it is done on a thread of its own, when
/// there is something to put in for the first time.
@safe package final class FastPath: @unchecked Sendable {
  private var path: ovx_fastpath
  private let entries: UnsafeMutablePointer<ovx_fastpath_entry>
  private let counts: UnsafeMutablePointer<ovx_fastpath_count>
  /// What workers revoke decisions by.
  let generations: Generations
  /// The numbers of entries that are not in use; whoever changes what is under a key has them, too.
  private let numbers = Mutex(EntryPool(size: UInt32(OVX_FASTPATH_ENTRIES)))
  private let links = Mutex(Links())

  /// The devices that have a program, and those that are to get one.
  private struct Links: ~Copyable {
    /// By their links' descriptors, which are owned.
    var attached: [Hook: Int32] = [:]
    var wanted: Set<Hook> = []
    /// Where it failed, which is not tried again before the next topology.
    var failed: [Hook: Errno] = [:]
    var waiting: [Hook] = []
    var isAttaching = false
  }

  /// A program on a device.
  struct Hook: Hashable, Sendable {
    var device: UInt32
    /// Whether it takes datagrams of tunnels, or what a port's device brings.
    var isUnderlay: Bool
  }

  /// Loads the programs.
  ///
  /// - Throws: What the kernel refuses, and for a program that its verifier refuses what that says.
  package init() throws(LinuxError) {
    var path = unsafe ovx_fastpath()
    var step: UnsafePointer<CChar>?
    var log = [CChar](repeating: 0, count: 64 << 10)
    let refusal = unsafe log.withUnsafeMutableBufferPointer { log in
      unsafe ovx_fastpath_open(&path, log.baseAddress, log.count, &step)
    }
    guard refusal == 0, let entries = unsafe path.entries, let counts = unsafe path.counts,
      let generations = unsafe path.generations
    else {
      throw Self.error(
        errno: Errno(rawValue: -refusal), step: unsafe step.map { unsafe String(cString: $0) },
        log: String(decoding: log.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self))
    }
    unsafe self.entries = unsafe entries
    unsafe self.counts = unsafe counts
    unsafe self.generations = Generations(
      generations, count: Int(OVX_FASTPATH_SLOTS), seed: .random(in: .min ... .max))
    unsafe self.path = unsafe path
    // 0 is the topology of entries that are not in use.
    self.generations.change(Generations.topology)
  }

  deinit {
    links.withLock { links in
      for link in links.attached.values { _ = Descriptor(owning: link) }
    }
    unsafe ovx_fastpath_close(&path)
  }

  private static func error(errno: Errno, step: String?, log: String) -> LinuxError {
    let remedy: String? =
      switch errno {
      case .notPermitted, .permissionDenied:
        "it takes CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, or CAP_SYS_ADMIN, and a kernel that is not locked down"
      case .noFunction: "the kernel has no BPF"
      default: nil
      }
    let detail = log.split(separator: "\n").last.map(String.init)
    return LinuxError(
      action: step ?? "start", subject: "the fast path", errno: errno, detail: detail,
      remedy: remedy)
  }

  // MARK: Revoking

  /// Revokes all decisions, and returns when no program runs any more that has seen one.
  func revokeAll() {
    generations.change(Generations.topology)
    // That takes milliseconds, and what is put in from now on is revoked already.
    if numbers.withLock({ !$0.isWhole }) { _ = ovx_fastpath_wait() }
  }

  // MARK: Devices

  /// Makes a packet socket ask a fast path before it takes a frame, or ask nobody; -1 for no
  /// socket.
  static func filter(_ socket: Int32, by path: FastPath?) {
    if socket >= 0 { _ = unsafe ovx_fastpath_filter(socket, path?.path.decide ?? -1) }
  }

  /// Tells which devices a topology has; programs are taken from all others.
  func want(_ hooks: Set<Hook>) {
    let gone = links.withLock { links in
      links.wanted = hooks
      links.failed = [:]
      links.waiting.removeAll { !hooks.contains($0) }
      var gone: [Int32] = []
      for hook in Array(links.attached.keys) where !hooks.contains(hook) {
        if let link = links.attached.removeValue(forKey: hook) { gone.append(link) }
      }
      return gone
    }
    guard !gone.isEmpty else { return }
    // Each takes as long as it took to hang it there.
    let close: @Sendable () -> Void = { for link in gone { _ = Descriptor(owning: link) } }
    do throws(Errno) {
      try startDetachedThread(stackSize: 64 << 10, close)
    } catch {
      close()
    }
  }

  /// The devices that a topology has for the fast path.
  static func hooks(of topology: Topology) -> Set<Hook> {
    var hooks: Set<Hook> = []
    for port in topology.ports {
      switch port.attachment {
      case .device(let device):
        if let index = device.fastPathIndex {
          hooks.insert(Hook(device: index, isUnderlay: false))
        }
      case .tunnel(let tunnel):
        for route in tunnel.peers.compactMap(\.fastPath) {
          hooks.insert(Hook(device: route.device, isUnderlay: true))
        }
      case .waiting: break
      }
    }
    return hooks
  }

  /// How it stands with a device, which gets its program soon where it has none.
  ///
  /// - Returns: `.ready` where it is to be asked again.
  func attach(_ hook: Hook) -> FastPathState {
    let (state, isToStart) = links.withLock { links in
      if links.attached[hook] != nil { return (FastPathState.attached, false) }
      if let errno = links.failed[hook] { return (.refused(errno), false) }
      guard links.wanted.contains(hook) else { return (.off, false) }
      if links.waiting.contains(hook) { return (.ready, false) }
      links.waiting.append(hook)
      let isToStart = !links.isAttaching
      links.isAttaching = true
      return (.ready, isToStart)
    }
    guard isToStart else { return state }
    do throws(Errno) {
      try startDetachedThread(stackSize: 256 << 10) { self.attachWaiting() }
    } catch {
      links.withLock {
        $0.isAttaching = false
        $0.waiting = []
      }
    }
    return state
  }

  private func attachWaiting() {
    while let hook = nextHook() {
      let program = unsafe hook.isUnderlay ? path.receive : path.forward
      let number = ovx_fastpath_attach(program, hook.device)
      links.withLock { links in
        links.waiting.removeAll { $0 == hook }
        guard number >= 0 else {
          links.failed[hook] = Errno(rawValue: -number)
          return
        }
        if links.wanted.contains(hook) {
          links.attached[hook] = number
        } else {
          _ = Descriptor(owning: number)
        }
      }
    }
  }

  private func nextHook() -> Hook? {
    links.withLock { links in
      let next = links.waiting.first
      if next == nil { links.isAttaching = false }
      return next
    }
  }

  /// How it stands with a device.
  func state(of hook: Hook) -> FastPathState {
    links.withLock { links in
      if links.attached[hook] != nil { return .attached }
      if let errno = links.failed[hook] { return .refused(errno) }
      return links.wanted.contains(hook) ? .ready : .off
    }
  }

  // MARK: Entries

  /// Puts in a decision; `nil` where there is no room for its segment, or it is there already.
  ///
  /// - Returns: The number of its entry.
  func install(_ flow: FastPathFlow, for offer: FlowOffer) -> (number: UInt32, key: FlowKey)? {
    let key = FlowKey(flow, offer)
    return numbers.withLock { numbers in
      if let present = number(under: key), isCurrent(offer, present) { return nil }
      guard let number = numbers.take(for: offer.segment) else { return nil }
      unsafe (entries + Int(number)).pointee = Self.entry(flow, offer)
      unsafe (counts + Int(number)).pointee = ovx_fastpath_count()
      let refusal = unsafe key.withBytes { unsafe ovx_fastpath_set(map(of: key), $0, number) }
      guard refusal == 0 else {
        numbers.give(number, of: offer.segment)
        return nil
      }
      return (number, key)
    }
  }

  private func map(of key: FlowKey) -> Int32 {
    unsafe key.isOfTunnel ? path.vtep_flows : path.port_flows
  }

  private func number(under key: FlowKey) -> UInt32? {
    var number: UInt32 = 0
    let refusal = unsafe key.withBytes { unsafe ovx_fastpath_get(map(of: key), $0, &number) }
    return refusal == 0 && number < OVX_FASTPATH_ENTRIES ? number : nil
  }

  private static func entry(_ flow: FastPathFlow, _ offer: FlowOffer) -> ovx_fastpath_entry {
    var entry = ovx_fastpath_entry()
    entry.topology = offer.topologyGeneration
    entry.source_slot = offer.sourceSlot
    entry.source_generation = offer.sourceGeneration
    entry.target_slot = offer.targetSlot
    entry.target_generation = offer.targetGeneration
    entry.ifindex = flow.egress
    entry.mtu = UInt32(flow.mtu)
    entry.is_secured = offer.sender == nil ? 0 : 1
    if let header = flow.header {
      entry.is_tunnel = 1
      entry.header_sum = header.sum
      entry.salt = .random(in: 0...0xFFFF)
      unsafe withUnsafeMutableBytes(of: &entry.header) { place in
        unsafe withUnsafeBytes(of: header.words) { unsafe place.copyMemory(from: $0) }
      }
    }
    return entry
  }

  /// Takes a decision out; its number is to be freed a while later, when no program can be at it
  /// any more.
  func remove(_ number: UInt32, _ key: FlowKey) {
    numbers.withLock { _ in
      unsafe (entries + Int(number)).pointee.topology = 0
      guard self.number(under: key) == number else { return }
      _ = unsafe key.withBytes { unsafe ovx_fastpath_remove(map(of: key), $0) }
    }
  }

  func free(_ number: UInt32, of offer: FlowOffer) {
    numbers.withLock { $0.give(number, of: offer.segment) }
  }

  /// The segment whose decisions are to make room for others'; `nil` where there is room.
  var fullestSegment: EntryPool.Segment? { numbers.withLock(\.fullest) }

  /// What an entry has forwarded since it was put in.
  func count(of number: UInt32) -> FastPathCount {
    let count = unsafe (counts + Int(number)).pointee
    return FastPathCount(
      frames: count.frames, segments: count.segments, bytes: count.bytes, refused: count.refused)
  }

  /// Whether an entry is of a decision, and holds.
  func isCurrent(_ offer: FlowOffer, _ number: UInt32) -> Bool {
    let entry = unsafe (entries + Int(number)).pointee
    return entry.topology == generations[Generations.topology]
      && entry.source_slot == offer.sourceSlot && entry.target_slot == offer.targetSlot
      && entry.source_generation == generations[offer.sourceSlot]
      && entry.target_generation == generations[offer.targetSlot]
  }
}

/// What an entry of the fast path has forwarded.
struct FastPathCount {
  /// Superframes counted once.
  var frames: UInt64 = 0
  /// The packets that these are on the wire.
  var segments: UInt64 = 0
  var bytes: UInt64 = 0
  /// Frames that were dropped for where their checksum was to go.
  var refused: UInt64 = 0
}

/// How it stands with the fast path of a device.
package enum FastPathState: Equatable, Sendable {
  case off
  /// Nothing has been put in yet.
  case ready
  case attached
  case refused(Errno)
}

/// What the programs find a decision by.
struct FlowKey {
  let isOfTunnel: Bool
  private var port = ovx_fastpath_port_flow()
  private var vtep = ovx_fastpath_vtep_flow()

  init(_ flow: FastPathFlow, _ offer: FlowOffer) {
    isOfTunnel = flow.tunnel != nil
    let addresses = [offer.target, offer.source].flatMap { address in
      (0..<6).map { UInt8(truncatingIfNeeded: address.rawValue >> UInt64(40 - 8 * $0)) }
    }
    if let (header, vni) = flow.tunnel {
      vtep.remote = header.remote.bigEndian
      vtep.local = header.local.bigEndian
      vtep.vni = (vni << 8).bigEndian
      vtep.port = header.port.bigEndian
      unsafe withUnsafeMutableBytes(of: &vtep.addresses) { unsafe $0.copyBytes(from: addresses) }
    } else {
      port.ifindex = flow.device
      unsafe withUnsafeMutableBytes(of: &port.addresses) { unsafe $0.copyBytes(from: addresses) }
      guard let sender = offer.sender else { return }
      let type: EtherType = sender.isIPv6 ? .ipv6 : .ipv4
      port.type = UInt32(type.rawValue.bigEndian)
      unsafe withUnsafeMutableBytes(of: &port.sender) { unsafe $0.copyBytes(from: sender.octets) }
    }
  }

  func withBytes(_ body: (UnsafeRawPointer) -> Int32) -> Int32 {
    isOfTunnel
      ? unsafe withUnsafePointer(to: vtep) { unsafe body($0) }
      : unsafe withUnsafePointer(to: port) { unsafe body($0) }
  }
}
