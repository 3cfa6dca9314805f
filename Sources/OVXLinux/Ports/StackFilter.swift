private import CLinux
private import OVXDatapath
private import SystemPackage

/// Keeps the host's own network stack off a port's device, in both directions.
///
/// A packet socket copies what a device receives, and the kernel goes on with the original: without
/// this the host would answer a tenant's ARP, take its routes and forward its packets. The filters
/// of traffic control come behind packet sockets on the way in, and a packet socket with
/// `PACKET_QDISC_BYPASS` goes past them on the way out; so one that takes every frame leaves the
/// switch as the device's only user. It stands in the kernel whatever becomes of the process, and
/// `nft flush ruleset` does not touch it.
///
/// The filter is a classic BPF program (cls_bpf), which takes no more than CAP_NET_ADMIN. Its first
/// instructions load numbers that nobody uses: they tell whose it is, and are read back with the
/// filter. It has the first priority, for a filter in front of it could let frames pass. Filters
/// behind it stay as they are, and see nothing.
package struct StackFilter: Hashable, Sendable {
  /// Of the configuration that wants the device for itself.
  private let owner: UInt64

  /// Makes the filter of an owner; equal texts are one owner.
  package init(owner: String) {
    self.owner = owner.utf8.fnv1a()
  }

  /// "ovx", and in the lowest byte whether the discipline that the filter hangs on was made for it.
  private static let signature: UInt32 = 0x6F76_7800

  /// The program's instructions: `struct sock_filter` of <linux/filter.h>.
  func program(ownsDiscipline: Bool) -> [UInt8] {
    let load: UInt16 = 0x00  // BPF_LD | BPF_W | BPF_IMM
    let end: UInt16 = 0x06  // BPF_RET | BPF_K
    return Self.instruction(load, Self.signature | (ownsDiscipline ? 1 : 0))
      + Self.instruction(load, UInt32(truncatingIfNeeded: owner >> 32))
      + Self.instruction(load, UInt32(truncatingIfNeeded: owner))
      // Taken, not dropped: no drop monitor tells of it.
      + Self.instruction(end, UInt32(bitPattern: TC_ACT_STOLEN))
  }

  private static func instruction(_ code: UInt16, _ value: UInt32) -> [UInt8] {
    unsafe withUnsafeBytes(of: code) { unsafe Array($0) } + [0, 0]
      + (unsafe withUnsafeBytes(of: value) { unsafe Array($0) })
  }

  /// Whether a filter is this one.
  func isProgram(of filter: TrafficFilter) -> Bool {
    filter.program == program(ownsDiscipline: false) || ownsDiscipline(of: filter)
  }

  fileprivate func ownsDiscipline(of filter: TrafficFilter) -> Bool {
    filter.program == program(ownsDiscipline: true)
  }

  /// Whether a filter keeps the host's stack off a device, whoever wants that.
  static func isAny(_ filter: TrafficFilter) -> Bool {
    let model = StackFilter(owner: "").program(ownsDiscipline: false)
    guard filter.program.count == model.count else { return false }
    return [false, true].contains { flag in
      filter.program.prefix(8) == instruction(0, signature | (flag ? 1 : 0))[...]
    } && filter.program.suffix(8) == model.suffix(8)
  }
}

/// A filter of traffic control.
struct TrafficFilter: Hashable, Sendable {
  var linkIndex: Int32
  /// Where it hangs: a `TrafficDirection`, or another discipline or class.
  var parent: UInt32
  /// 0 for what only holds filters of one priority.
  var handle: UInt32
  /// Priority and protocol, as the kernel has them in one number.
  var info: UInt32
  /// For one of kind "bpf" with a classic program: its instructions.
  var program: [UInt8] = []
}

/// The two hooks of the discipline clsact.
enum TrafficDirection: UInt32, CaseIterable {
  case ingress = 0xFFFF_FFF2
  case egress = 0xFFFF_FFF3
}

extension Netlink {
  /// Keeps the host's stack off a device from now on; `false` where it was kept off already.
  ///
  /// A filter that somebody has put in front of this one since is behind it afterwards.
  ///
  /// - Throws: Also where a filter of somebody else's stands in front, which could let frames pass.
  package mutating func isolate(
    _ link: Link, by filter: StackFilter
  ) throws(LinuxError) -> Bool {
    var isMade = try addDiscipline(to: link)
    let ownsDiscipline = isMade
    for direction in TrafficDirection.allCases {
      let present = ownsDiscipline ? [] : try filters(of: link, direction)
      let ours = present.filter(filter.isProgram)
      if Self.isKept(by: filter, among: present) { continue }
      // One that is added comes first. Those that have fallen behind go afterwards, so that there
      // is always one.
      try add(
        filter, to: link, direction,
        ownsDiscipline: ownsDiscipline || ours.contains(where: filter.ownsDiscipline))
      for old in ours { try remove(old, from: link) }
      isMade = true
      guard Self.isKept(by: filter, among: try filters(of: link, direction)) else {
        // The port does not get the device, so it stays as it was.
        if ours.isEmpty { _ = try? release(link, from: filter) }
        throw Self.isBehind(link)
      }
    }
    return isMade
  }

  /// Whether the host's stack is kept off a device by a filter, in both directions.
  package mutating func isIsolated(_ link: Link, by filter: StackFilter) throws(LinuxError) -> Bool
  {
    for direction in TrafficDirection.allCases
    where try !Self.isKept(by: filter, among: filters(of: link, direction)) {
      return false
    }
    return true
  }

  /// Whether a device has a filter, in any direction.
  package mutating func holds(_ link: Link, _ filter: StackFilter) throws(LinuxError) -> Bool {
    for direction in TrafficDirection.allCases
    where try filters(of: link, direction).contains(where: filter.isProgram) {
      return true
    }
    return false
  }

  /// Takes a filter from a device, and what was made for it; leaves everything else that hangs
  /// there.
  package mutating func release(_ link: Link, from filter: StackFilter) throws(LinuxError) {
    var ownsDiscipline = false
    var isEmpty = true
    for direction in TrafficDirection.allCases {
      for present in try filters(of: link, direction) where present.handle != 0 {
        guard filter.isProgram(of: present) else {
          isEmpty = false
          continue
        }
        ownsDiscipline = ownsDiscipline || filter.ownsDiscipline(of: present)
        try remove(present, from: link)
      }
    }
    if ownsDiscipline, isEmpty { try removeDiscipline(of: link) }
  }

  /// The indices of devices that may have filters of a `StackFilter`: those with clsact, or its
  /// elder sister ingress.
  package mutating func classifiedLinks() throws(LinuxError) -> Set<Int32> {
    let found: [Int32] = try dump(
      NetlinkRequest(type: Int(RTM_GETQDISC), flags: NLM_F_DUMP, family: tcmsg()),
      for: Purpose(action: "list", subject: "queueing disciplines"), key: \.self
    ) { message in
      guard message.type == Int(RTM_NEWQDISC), let header = message.family(as: tcmsg.self),
        header.tcm_parent == Self.classifier
      else { return nil }
      return header.tcm_ifindex
    }
    return Set(found)
  }

  // MARK: Messages

  /// `TC_H_CLSACT`.
  static let classifier: UInt32 = 0xFFFF_FFF1
  private static let disciplineHandle: UInt32 = 0xFFFF_0000
  /// Priority 1, all protocols (`ETH_P_ALL` in network byte order).
  private static let firstPriority = 1 << 16 | UInt32(UInt16(3).bigEndian)

  private static func purpose(_ link: Link) -> Purpose {
    Purpose(action: "keep the host's own network stack off", subject: link.name) { errno in
      switch errno {
      case .noSuchFileOrDirectory, .notSupported, .invalidArgument:
        "the kernel needs sch_ingress and cls_bpf, and filters of others on the device "
          + "(`tc filter show dev \(link.name) ingress`) a priority above 1 and no shared block"
      default: nil
      }
    }
  }

  /// Whether a filter is among some, and the first of these takes every frame, be it this one or
  /// another owner's.
  private static func isKept(by filter: StackFilter, among present: [TrafficFilter]) -> Bool {
    guard let first = present.first(where: { $0.handle != 0 }) else { return false }
    return StackFilter.isAny(first) && present.contains(where: filter.isProgram)
  }

  private static func isBehind(_ link: Link) -> LinuxError {
    LinuxError(
      action: "keep the host's own network stack off", subject: link.name, errno: .fileExists,
      detail: "a traffic control filter of somebody else's comes first on it",
      remedy: "give that a priority above 1; `tc filter show dev \(link.name) ingress` shows it")
  }

  /// Makes the discipline that has the hooks; `false` where there is one.
  private mutating func addDiscipline(to link: Link) throws(LinuxError) -> Bool {
    var request = NetlinkRequest(
      type: Int(RTM_NEWQDISC), flags: NLM_F_CREATE | NLM_F_EXCL, family: Self.family(of: link))
    request.put(Int(TCA_KIND), "clsact")
    do {
      try transact(request, for: Self.purpose(link))
    } catch  where error.errno == .fileExists {
      return false
    }
    return true
  }

  private mutating func removeDiscipline(of link: Link) throws(LinuxError) {
    try transact(
      NetlinkRequest(type: Int(RTM_DELQDISC), flags: 0, family: Self.family(of: link)),
      for: Purpose(action: "take traffic control from", subject: link.name))
  }

  private static func family(of link: Link) -> tcmsg {
    var family = tcmsg()
    family.tcm_ifindex = link.index
    family.tcm_parent = classifier
    family.tcm_handle = disciplineHandle
    return family
  }

  private mutating func add(
    _ filter: StackFilter, to link: Link, _ direction: TrafficDirection, ownsDiscipline: Bool
  ) throws(LinuxError) {
    var family = tcmsg()
    family.tcm_ifindex = link.index
    family.tcm_parent = direction.rawValue
    family.tcm_info = Self.firstPriority
    var request = NetlinkRequest(
      type: Int(RTM_NEWTFILTER), flags: NLM_F_CREATE | NLM_F_EXCL, family: family)
    request.put(Int(TCA_KIND), "bpf")
    let program = filter.program(ownsDiscipline: ownsDiscipline)
    let count = UInt16(truncatingIfNeeded: program.count / 8)
    request.nest(Int(TCA_OPTIONS)) { options in
      options.put(
        Int(TCA_BPF_OPS_LEN), bytes: unsafe withUnsafeBytes(of: count) { unsafe Array($0) })
      options.put(Int(TCA_BPF_OPS), bytes: program)
      options.put(Int(TCA_BPF_FLAGS), 1)  // TCA_BPF_FLAG_ACT_DIRECT: the result is the verdict.
      // TCA_CLS_FLAGS_SKIP_HW: a card that carried it out would keep frames from the switch.
      options.put(Int(TCA_BPF_FLAGS_GEN), 1)
    }
    try transact(request, for: Self.purpose(link))
  }

  private mutating func remove(_ filter: TrafficFilter, from link: Link) throws(LinuxError) {
    var family = tcmsg()
    family.tcm_ifindex = link.index
    family.tcm_parent = filter.parent
    family.tcm_handle = filter.handle
    family.tcm_info = filter.info
    var request = NetlinkRequest(type: Int(RTM_DELTFILTER), flags: 0, family: family)
    request.put(Int(TCA_KIND), "bpf")
    try transact(request, for: Purpose(action: "take the filter from", subject: link.name))
  }

  /// The filters of a device in one direction, in the order in which frames meet them.
  mutating func filters(
    of link: Link, _ direction: TrafficDirection
  ) throws(LinuxError) -> [TrafficFilter] {
    var family = tcmsg()
    family.tcm_ifindex = link.index
    family.tcm_parent = direction.rawValue
    return try dump(
      NetlinkRequest(type: Int(RTM_GETTFILTER), flags: NLM_F_DUMP, family: family),
      for: Purpose(action: "list the filters of", subject: link.name), key: \.self
    ) { message in
      message.type == Int(RTM_NEWTFILTER) ? TrafficFilter(message) : nil
    }
  }
}

extension TrafficFilter {
  /// Decodes a description of a filter, new or going.
  init?(_ message: NetlinkMessage) {
    guard let header = message.family(as: tcmsg.self) else { return nil }
    linkIndex = header.tcm_ifindex
    parent = header.tcm_parent
    handle = header.tcm_handle
    info = header.tcm_info
    var isBPF = false
    var program: [UInt8] = []
    message.forEachAttribute(after: MemoryLayout<tcmsg>.size) { type, value in
      if type == Int(TCA_KIND) { isBPF = value.text == "bpf" }
      guard type == Int(TCA_OPTIONS), isBPF else { return }
      value.forEachAttribute { type, value in
        if type == Int(TCA_BPF_OPS) { program = value.octets }
      }
    }
    self.program = program
  }
}
