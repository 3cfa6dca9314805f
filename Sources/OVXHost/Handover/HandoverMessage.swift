package import OVXDatapath

/// What a daemon and the one that takes its place say to each other, in this order.
///
///     new → old   hello
///     old → new   descriptors …, agent …, offered, or cancelled
///     new → old   fault …, ready                 the old one goes on forwarding until then
///     old → new   addresses …, neighbors …, go, or cancelled: nobody reads from the first one on
///     new → old   took                           from here on only the new one may read
///     new → old   reads                          it does
///     old → new   counters …                     then the old one ends
///
/// Bridges, ports and remote VTEPs have names here, and no numbers: those are each daemon's own.
/// Versions may differ, so drop reasons go by their symbols, and who does not know one leaves it
/// out.
package enum HandoverMessage: Equatable {
  /// What the form of all this is called; who has another one starts anew.
  package static let version: UInt16 = 1
  /// Entries of a list in one message at most: less than ``MessageSocket`` takes, however long they
  /// are.
  package static let entryLimit = 256
  /// The same of counters, each of which has a line for each drop reason.
  static let countersLimit = 16

  case hello(Hello)
  /// One for each descriptor that goes with the message, in order.
  case descriptors([HandedDescriptor])
  /// An `AgentUpdate`, as the control socket has it.
  case agent([UInt8])
  case offered
  /// A port that the new daemon cannot serve, and why.
  case fault(port: String, sentence: String)
  case ready
  case addresses(bridge: String, [HandedAddress])
  case neighbors(bridge: String, [HandedNeighbor])
  case counters([HandedCounters])
  case go
  case took
  case reads
  /// Why nothing comes of it; the old daemon goes on.
  case cancelled(String)

  /// What the new daemon is.
  package struct Hello: Equatable {
    package var version: UInt16
    /// Its program's, for the log.
    package var program: String
    /// What it was started with, other than what goes without saying: `--workers 2`.
    package var options: [String]

    package init(
      version: UInt16 = HandoverMessage.version, program: String, options: [String]
    ) {
      self.version = version
      self.program = program
      self.options = options
    }
  }
}

/// What a descriptor is of.
package enum HandedDescriptor: Hashable {
  /// A port's TAP or network card in the daemon's network namespace; `isAway` says that a TAP is
  /// not there any more.
  case device(name: String, isAway: Bool)
  /// A TAP in a container.
  case container(target: String, name: String, holdsNamespace: Bool)
  /// A socket that receives for an endpoint.
  case listener(local: IPAddress?, isIPv6: Bool, port: UInt16)
  /// The file that says that a daemon has the run directory; its lock goes with it.
  case lock
  /// The control sockets: that of those who may change something, that of everybody, and that of
  /// daemons to come.
  case control
  case openControl
  case handover
}

/// An address of a bridge's table.
package struct HandedAddress: Equatable {
  package var vlan: VLANID
  package var address: MACAddress
  package var port: String
  /// Behind which VTEP it is; `nil` at a device.
  package var remote: IPAddress?
  /// Seconds since it was last seen; `nil` for one that an operator has set.
  package var age: UInt32?
}

/// A neighbor of a bridge's table.
package struct HandedNeighbor: Equatable {
  package var vlan: VLANID
  package var ip: IPAddress
  package var address: MACAddress
  package var port: String
  package var remote: IPAddress?
  package var isRouter: Bool
  package var age: UInt32
}

/// What a port has carried and lost; no name stands for no port.
package struct HandedCounters: Equatable {
  package var port: String
  package var counters: PortCounters
}

// MARK: - Bytes

extension HandoverMessage {
  private enum Kind: UInt8 {
    case hello = 1
    case descriptors, agent, offered, fault, ready, addresses, neighbors, counters, go, took, reads
    case cancelled
  }

  private var kind: Kind {
    switch self {
    case .hello: .hello
    case .descriptors: .descriptors
    case .agent: .agent
    case .offered: .offered
    case .fault: .fault
    case .ready: .ready
    case .addresses: .addresses
    case .neighbors: .neighbors
    case .counters: .counters
    case .go: .go
    case .took: .took
    case .reads: .reads
    case .cancelled: .cancelled
    }
  }

  /// The same some seconds later.
  package func older(by seconds: UInt32) -> HandoverMessage {
    func sum(_ age: UInt32) -> UInt32 { age + min(seconds, .max - age) }
    switch self {
    case .addresses(let bridge, var list):
      for index in list.indices { list[index].age = list[index].age.map(sum) }
      return .addresses(bridge: bridge, list)
    case .neighbors(let bridge, var list):
      for index in list.indices { list[index].age = sum(list[index].age) }
      return .neighbors(bridge: bridge, list)
    default: return self
    }
  }

  /// The message as it is sent.
  package var bytes: [UInt8] {
    var writer = HandoverWriter(kind.rawValue)
    switch self {
    case .hello(let hello):
      writer.put(hello.version)
      writer.put(hello.program)
      writer.put(hello.options) { $0.put($1) }
    case .descriptors(let list): writer.put(list) { $0.put($1) }
    case .agent(let update): writer.put(update)
    case .fault(let port, let sentence):
      writer.put(port)
      writer.put(sentence)
    case .addresses(let bridge, let list):
      writer.put(bridge)
      writer.put(list) { $0.put($1) }
    case .neighbors(let bridge, let list):
      writer.put(bridge)
      writer.put(list) { $0.put($1) }
    case .counters(let list): writer.put(list) { $0.put($1) }
    case .cancelled(let sentence): writer.put(sentence)
    case .offered, .ready, .go, .took, .reads: break
    }
    return writer.bytes
  }

  /// Reads a message; `nil` for bytes that are none.
  package init?(bytes: [UInt8]) {
    do throws(MalformedHandover) {
      var reader = HandoverReader(bytes)
      try self.init(&reader)
      guard reader.isAtEnd else { return nil }
    } catch {
      return nil
    }
  }

  private init(_ reader: inout HandoverReader) throws(MalformedHandover) {
    guard let kind = Kind(rawValue: try reader.number()) else { throw MalformedHandover() }
    switch kind {
    case .hello:
      self = .hello(
        Hello(
          version: try reader.number(), program: try reader.text(),
          options: try reader.list { reader throws(MalformedHandover) in try reader.text() }))
    case .descriptors:
      self = .descriptors(
        try reader.list { reader throws(MalformedHandover) in try HandedDescriptor(&reader) })
    case .agent: self = .agent(Array(try reader.octets()))
    case .offered: self = .offered
    case .fault: self = .fault(port: try reader.text(), sentence: try reader.text())
    case .ready: self = .ready
    case .addresses:
      self = .addresses(
        bridge: try reader.text(),
        try reader.list { reader throws(MalformedHandover) in try HandedAddress(&reader) })
    case .neighbors:
      self = .neighbors(
        bridge: try reader.text(),
        try reader.list { reader throws(MalformedHandover) in try HandedNeighbor(&reader) })
    case .counters:
      self = .counters(
        try reader.list { reader throws(MalformedHandover) in try HandedCounters(&reader) })
    case .go: self = .go
    case .took: self = .took
    case .reads: self = .reads
    case .cancelled: self = .cancelled(try reader.text())
    }
  }
}

extension HandoverWriter {
  fileprivate mutating func put<Entry>(
    _ list: [Entry], _ put: (inout HandoverWriter, Entry) -> Void
  ) {
    let list = list.prefix(HandoverMessage.entryLimit)
    self.put(UInt16(list.count))
    for entry in list { put(&self, entry) }
  }

  fileprivate mutating func put(_ address: IPAddress?) {
    let octets = address?.octets ?? []
    put(UInt8(octets.count))
    for octet in octets { put(octet) }
  }

  fileprivate mutating func put(_ descriptor: HandedDescriptor) {
    switch descriptor {
    case .device(let name, let isAway):
      put(UInt8(0))
      put(name)
      put(isAway)
    case .container(let target, let name, let holdsNamespace):
      put(UInt8(1))
      put(target)
      put(name)
      put(holdsNamespace)
    case .listener(let local, let isIPv6, let port):
      put(UInt8(2))
      put(local)
      put(isIPv6)
      put(port)
    case .lock: put(UInt8(3))
    case .control: put(UInt8(4))
    case .openControl: put(UInt8(5))
    case .handover: put(UInt8(6))
    }
  }

  fileprivate mutating func put(_ entry: HandedAddress) {
    put(entry.vlan.rawValue)
    put(entry.address.rawValue)
    put(entry.port)
    put(entry.remote)
    put(entry.age != nil)
    put(entry.age ?? 0)
  }

  fileprivate mutating func put(_ entry: HandedNeighbor) {
    put(entry.vlan.rawValue)
    put(entry.ip)
    put(entry.address.rawValue)
    put(entry.port)
    put(entry.remote)
    put(entry.isRouter)
    put(entry.age)
  }

  fileprivate mutating func put(_ entry: HandedCounters) {
    let counters = entry.counters
    put(entry.port)
    put(counters.receivedFrames)
    put(counters.receivedBytes)
    put(counters.sentFrames)
    put(counters.sentBytes)
    put(counters.answeredFrames)
    put(counters.reportedFrames)
    var named = DropReason.allCases.filter { counters[$0] > 0 }.map { ($0.symbol, counters[$0]) }
    if counters.unheardFrames > 0 {
      named.append((HandedCounters.unheard, counters.unheardFrames))
    }
    put(UInt8(clamping: named.count))
    for (name, count) in named.prefix(255) {
      put(name)
      put(count)
    }
  }
}

extension HandoverReader {
  fileprivate mutating func list<Entry>(
    _ read: (inout HandoverReader) throws(MalformedHandover) -> Entry
  ) throws(MalformedHandover) -> [Entry] {
    let count = Int(try number(UInt16.self))
    guard count <= HandoverMessage.entryLimit else { throw MalformedHandover() }
    var list: [Entry] = []
    for _ in 0..<count { list.append(try read(&self)) }
    return list
  }

  fileprivate mutating func optionalAddress() throws(MalformedHandover) -> IPAddress? {
    let count = Int(try number(UInt8.self))
    if count == 0 { return nil }
    guard let address = IPAddress(octets: try octets(count)) else { throw MalformedHandover() }
    return address
  }

  fileprivate mutating func address() throws(MalformedHandover) -> IPAddress {
    guard let address = try optionalAddress() else { throw MalformedHandover() }
    return address
  }

  fileprivate mutating func vlan() throws(MalformedHandover) -> VLANID {
    guard let vlan = VLANID(rawValue: try number()) else { throw MalformedHandover() }
    return vlan
  }

  fileprivate mutating func mac() throws(MalformedHandover) -> MACAddress {
    guard let address = MACAddress(rawValue: try number()) else { throw MalformedHandover() }
    return address
  }
}

extension HandedDescriptor {
  fileprivate init(_ reader: inout HandoverReader) throws(MalformedHandover) {
    switch try reader.number(UInt8.self) {
    case 0: self = .device(name: try reader.text(), isAway: try reader.flag())
    case 1:
      self = .container(
        target: try reader.text(), name: try reader.text(), holdsNamespace: try reader.flag())
    case 2:
      self = .listener(
        local: try reader.optionalAddress(), isIPv6: try reader.flag(), port: try reader.number())
    case 3: self = .lock
    case 4: self = .control
    case 5: self = .openControl
    case 6: self = .handover
    default: throw MalformedHandover()
    }
  }
}

extension HandedAddress {
  fileprivate init(_ reader: inout HandoverReader) throws(MalformedHandover) {
    vlan = try reader.vlan()
    address = try reader.mac()
    port = try reader.text()
    remote = try reader.optionalAddress()
    let isLearned = try reader.flag()
    let age: UInt32 = try reader.number()
    self.age = isLearned ? age : nil
  }
}

extension HandedNeighbor {
  fileprivate init(_ reader: inout HandoverReader) throws(MalformedHandover) {
    vlan = try reader.vlan()
    ip = try reader.address()
    address = try reader.mac()
    port = try reader.text()
    remote = try reader.optionalAddress()
    isRouter = try reader.flag()
    age = try reader.number()
  }
}

extension HandedCounters {
  fileprivate init(_ reader: inout HandoverReader) throws(MalformedHandover) {
    port = try reader.text()
    counters = PortCounters()
    counters.receivedFrames = try reader.number()
    counters.receivedBytes = try reader.number()
    counters.sentFrames = try reader.number()
    counters.sentBytes = try reader.number()
    counters.answeredFrames = try reader.number()
    counters.reportedFrames = try reader.number()
    let drops = Int(try reader.number(UInt8.self))
    for _ in 0..<drops {
      let symbol = try reader.text()
      let count: UInt64 = try reader.number()
      if symbol == Self.unheard { counters.unheardFrames = count }
      if let reason = Self.reasons[symbol] { counters[reason] = count }
    }
  }

  /// Goes among the drop reasons, by name, as a version that does not know it leaves it out.
  fileprivate static let unheard = "unheard"

  private static let reasons = Dictionary(
    uniqueKeysWithValues: DropReason.allCases.map { ($0.symbol, $0) })
}
