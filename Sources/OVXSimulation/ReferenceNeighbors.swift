package import OVXDatapath

/// A bridge's neighbor table as a dictionary, and ARP and neighbor discovery read byte by byte:
/// what the switch's are measured against.
package struct ReferenceNeighbors {
  package struct Key: Hashable {
    package var vlan: VLANID
    package var ip: IPAddress
  }

  package struct Entry: Equatable {
    package var address: MACAddress
    package var port: PortID
    package var peer: RemoteVTEPID
    package var isRouter: Bool
    package var lastSeen: UInt32
  }

  package internal(set) var entries: [Key: Entry] = [:] {
    // Whatever is told of a neighbor, or forgotten, takes along what spoke against it.
    didSet { doubts = doubts.filter { entries[$0.key] == oldValue[$0.key] } }
  }
  /// What speaks against neighbors.
  var doubts: [Key: NeighborDoubt] = [:]
  package var statistics = AddressStatistics()
  package internal(set) var limit: Int

  package init(limit: Int) { self.limit = limit }

  /// Takes in what a port says.
  ///
  /// - Parameters:
  ///   - key: Whose address it is.
  ///   - new: What it is now.
  ///   - portLimit: How many neighbors the port may have.
  ///   - choose: Picks the victim where one is needed.
  /// - Returns: Whether others may know differently.
  mutating func learn(_ key: Key, _ new: Entry, portLimit: Int, choose: ([Key]) -> Key?) -> Bool {
    let known = entries[key]
    entries[key] = nil
    let ofPort = entries.filter { $0.value.port == new.port }
    if ofPort.count >= portLimit, let victim = choose(oldest(ofPort, now: new.lastSeen)) {
      entries[victim] = nil
      statistics.limited += 1
    }
    if let known {
      var renewed = known
      renewed.lastSeen = new.lastSeen
      if renewed != new { statistics.moved += 1 }
    } else {
      if entries.count >= limit, let victim = choose(candidates(now: new.lastSeen)) {
        entries[victim] = nil
        statistics.evicted += 1
      }
      statistics.learned += 1
    }
    entries[key] = new
    doubts[key] = nil
    return known != nil && known?.address != new.address
  }

  /// The entries that may be evicted: the least recently seen ones of a port that holds the most.
  private func candidates(now: UInt32) -> [Key] {
    let byPort = Dictionary(grouping: entries, by: \.value.port)
    let most = byPort.values.map(\.count).max() ?? 0
    return byPort.values.filter { $0.count == most }.flatMap { oldest($0, now: now) }
  }

  private func oldest(_ some: some Collection<(key: Key, value: Entry)>, now: UInt32) -> [Key] {
    let most = some.map { now &- $0.value.lastSeen }.max() ?? 0
    return some.filter { now &- $0.value.lastSeen == most }.map(\.key)
  }

  mutating func expire(now: UInt32, agingTime: UInt32) {
    guard agingTime > 0 else { return }
    let before = entries.count
    entries = entries.filter { now &- $0.value.lastSeen < agingTime }
    statistics.expired += UInt64(before - entries.count)
  }

  /// Forgets everything, and says how many.
  package mutating func flush() -> Int {
    defer { entries = [:] }
    return entries.count
  }

  /// The neighbors that the switch lists, to compare with `entries`.
  package static func entries(_ listed: [KnownNeighbor], now: UInt32) -> [Key: Entry] {
    var entries: [Key: Entry] = [:]
    for line in listed {
      entries[Key(vlan: line.vlan, ip: line.ip)] = Entry(
        address: line.address, port: line.port, peer: line.peer, isRouter: line.isRouter,
        lastSeen: now &- line.age)
    }
    return entries
  }

  /// Takes over what the switch kept of a table that has become smaller.
  package mutating func adopt(_ observed: [KnownNeighbor], now: UInt32) {
    let kept = Self.entries(observed, now: now)
    entries = entries.filter { kept[$0.key] == $0.value }
  }
}

/// What a frame says about neighbors.
struct ReferenceNews {
  var ip: IPAddress
  var address: MACAddress
  /// Whether all may believe it; else it can only contradict.
  var isAnnouncement: Bool
  /// `nil` where the message does not tell.
  var isRouter: Bool?
  var question: IPAddress?
  /// Who is asked for of one station.
  var probe: IPAddress?
  /// What the sender wants to have, of whom there is nothing else to be known yet.
  var wanted: IPAddress?

  /// Reads a frame without tags.
  init?(_ frame: [UInt8]) {
    switch frame.number16(at: 12) {
    case 0x0806: self.init(arp: frame)
    case 0x86DD: self.init(ipv6: frame)
    default: return nil
    }
  }

  private init?(arp frame: [UInt8]) {
    guard frame.number(at: 14, count: 6) == 0x0001_0800_0604,
      let operation = frame.number16(at: 20),
      operation == 1 || operation == 2, let address = frame.address(at: 22),
      let sender = frame.number(at: 28, count: 4), let target = frame.number(at: 38, count: 4),
      Self.isStation(v4: sender)
        || sender == 0 && operation == 1 && frame.address(at: 0) == .broadcast
    else { return nil }
    ip = IPAddress(v4: UInt32(sender))
    self.address = address
    isAnnouncement = true
    isRouter = false
    guard sender != 0 else {
      wanted = IPAddress(v4: UInt32(target))
      if !Self.isStation(v4: target) { return nil }
      return
    }
    guard operation == 1, sender != target, Self.isStation(v4: target) else { return }
    if frame.address(at: 0) == .broadcast {
      question = IPAddress(v4: UInt32(target))
    } else {
      probe = IPAddress(v4: UInt32(target))
    }
  }

  private static func isStation(v4 address: UInt64) -> Bool {
    (0x0100_0000..<0x7F00_0000).contains(address) || (0x8000_0000..<0xE000_0000).contains(address)
  }

  private init?(ipv6 frame: [UInt8]) {
    guard frame.count >= 54, frame[14] >> 4 == 6, frame[21] == 255,
      let length = frame.number16(at: 18), frame.count >= 54 + Int(length)
    else { return nil }
    var next = frame[20]
    var rest = frame[54..<54 + Int(length)]
    for _ in 0..<8 where [0, 43, 60].contains(next) {
      guard rest.count >= 8 else { return nil }
      let header = Array(rest.prefix(8))
      let size = (Int(header[1]) + 1) * 8
      guard rest.count >= size, next != 43 || header[3] == 0 else { return nil }
      next = header[0]
      rest = rest.dropFirst(size)
    }
    guard next == 58 else { return nil }
    let message = Array(rest)
    var pseudo = Array(frame[22..<54])
    pseudo.append(number: UInt32(message.count))
    pseudo += [0, 0, 0, 58]
    let sum = onesComplementSum(pseudo[...])
    guard onesComplementSum(message[...], startingFrom: UInt64(sum)) == 0xFFFF,
      message.count >= 8, message[1] == 0
    else { return nil }
    let fixed: Int
    switch message[0] {
    case 133: fixed = 8
    case 134: fixed = 16
    case 135, 136: fixed = 24
    default: return nil
    }
    guard message.count >= fixed else { return nil }
    var options: [(type: UInt8, value: [UInt8])] = []
    rest = message[fixed...]
    while !rest.isEmpty {
      guard rest.count >= 8 else { return nil }
      let size = Int(rest[rest.startIndex + 1]) * 8
      guard size > 0, size <= rest.count else { return nil }
      options.append((rest[rest.startIndex], Array(rest.prefix(size).dropFirst(2))))
      rest = rest.dropFirst(size)
    }
    let wanted: UInt8 = message[0] == 136 ? 2 : 1
    let told = options.first { $0.type == wanted && $0.value.count == 6 }?.value.address(at: 0)
    // An advertisement without an address answers a question that went to its sender alone.
    let address = told ?? (message[0] == 136 ? frame.address(at: 6) : nil)
    let source = Array(frame[22..<38])
    let destination = Array(frame[38..<54])
    let isToAll = destination[0] == 0xFF
    let target = fixed == 24 ? Array(message[8..<24]) : []
    if fixed == 24, target[0] == 0xFF { return nil }
    let isAnonymous = source.allSatisfy { $0 == 0 }
    if isAnonymous, message[0] == 133 { return nil }
    if isAnonymous, message[0] == 135 {
      let solicited = [0xFF, 2] + [UInt8](repeating: 0, count: 9) + [1, 0xFF]
      guard Array(destination[..<13]) == solicited, frame[0] & 1 == 1, Self.isStation(v6: target),
        !options.contains(where: { $0.type == 1 }), let sender = frame.address(at: 6)
      else { return nil }
      ip = IPAddress(v6High: 0, low: 0)
      self.address = sender
      isAnnouncement = false
      self.wanted = Self.ip(target)
      return
    }
    if message[0] == 134, !(source[0] == 0xFE && source[1] >> 6 == 2) { return nil }
    if message[0] == 136, isToAll, message[4] & 0x40 != 0 { return nil }
    guard let address, isToAll == (frame[0] & 1 == 1) else { return nil }
    self.address = address
    let subject = message[0] == 136 ? target : source
    guard Self.isStation(v6: subject) else { return nil }
    ip = Self.ip(subject)
    switch message[0] {
    case 136:
      isAnnouncement = message[4] & 0x20 != 0 && told != nil
      if isAnnouncement { isRouter = message[4] & 0x80 != 0 }
    case 134:
      isAnnouncement = true
      isRouter = true
    default:
      isAnnouncement = false
      guard message[0] == 135, Self.isStation(v6: target) else { return }
      if isToAll { question = Self.ip(target) } else { probe = Self.ip(target) }
    }
  }

  private static func isStation(v6 octets: [UInt8]) -> Bool {
    octets[0] != 0xFF && !octets[..<15].allSatisfy { $0 == 0 }
      && Array(octets[..<12]) != [UInt8](repeating: 0, count: 10) + [0xFF, 0xFF]
      || octets[..<15].allSatisfy { $0 == 0 } && octets[15] > 1
  }

  private static func ip(_ octets: [UInt8]) -> IPAddress {
    IPAddress(
      v6High: octets.number(at: 0, count: 8) ?? 0, low: octets.number(at: 8, count: 8) ?? 0)
  }
}
