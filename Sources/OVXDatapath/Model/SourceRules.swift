/// `PortSecurity` as the frame path wants it: for each port that has one a few lists in fixed
/// arrays.
struct SourceRules: ~Copyable, Sendable {
  /// A stretch of one of the arrays.
  struct Stretch: BitwiseCopyable {
    var first: UInt32 = 0
    var count: UInt32 = 0

    var range: Range<Int> { Int(first)..<Int(first) + Int(count) }
  }

  struct Rule: BitwiseCopyable {
    var bindsStations = false
    var bindsAddresses = false
    /// Those that the port may send from, in `stations`.
    var stations = Stretch()
    /// Those that the port may send from, in `prefixes`.
    var ipv4 = Stretch()
    var ipv6 = Stretch()
    /// Those that it may never send from, in `prefixes`.
    var gateways = Stretch()
    /// The first address of each family that is one alone, from which nearly all frames come; none
    /// is of the other family.
    var ownIPv4 = IPAddress(v6High: 0, low: 0)
    var ownIPv6 = IPAddress(v4: 0)
    /// No station's address where there is none.
    var gatewayStation = MACAddress(truncating: 0)
  }

  /// Whose an IP address is.
  enum Owner: BitwiseCopyable {
    /// The port may send from it.
    case port
    /// No such port may.
    case gateway
    case somebodyElse
  }

  /// Addresses that begin with the same bits, in the form of `IPAddress`.
  struct Prefix: BitwiseCopyable {
    var high: UInt64
    var low: UInt64
    var highMask: UInt64
    var lowMask: UInt64
    var isIPv6: Bool

    init(_ prefix: PortSecurity.Prefix) {
      isIPv6 = prefix.base.isIPv6
      let length = min(max(prefix.length, 0), isIPv6 ? 128 : 32)
      let (high, low) = isIPv6 ? (min(length, 64), max(length - 64, 0)) : (0, length)
      highMask = high == 0 ? 0 : .max << UInt64(64 - high)
      lowMask = low == 0 ? 0 : .max << UInt64((isIPv6 ? 64 : 32) - low)
      self.high = prefix.base.high & highMask
      self.low = prefix.base.low & lowMask
    }

    @inline(__always) func contains(_ address: IPAddress) -> Bool {
      ((address.high & highMask) ^ high) | ((address.low & lowMask) ^ low) == 0
    }
  }

  private let rules: FixedArray<Rule>
  private let stations: FixedArray<MACAddress>
  private let prefixes: FixedArray<Prefix>

  /// Compiles the rules of ports.
  ///
  /// - Parameter securities: What the ports may send; the number of each is its place here.
  init(_ securities: [PortSecurity]) {
    var rules: [Rule] = []
    var stations: [MACAddress] = []
    var prefixes: [Prefix] = []
    func stretch(_ added: [PortSecurity.Prefix]) -> Stretch {
      defer { prefixes += added.map(Prefix.init) }
      return Stretch(first: UInt32(prefixes.count), count: UInt32(added.count))
    }
    for security in securities {
      var rule = Rule()
      var gateways = security.gateways
      if let station = security.gatewayStation {
        rule.gatewayStation = station
        gateways.append(station.linkLocal)
      }
      rule.gateways = stretch(gateways.map { PortSecurity.Prefix(base: $0, length: 128) })
      let own = security.stations ?? []
      rule.bindsStations = security.stations != nil
      rule.stations = Stretch(first: UInt32(stations.count), count: UInt32(own.count))
      stations += own
      if let addresses = security.addresses {
        rule.bindsAddresses = true
        rule.ipv4 = stretch(addresses.filter { !$0.base.isIPv6 })
        let linkLocal = own.map { PortSecurity.Prefix(base: $0.linkLocal, length: 128) }
        rule.ipv6 = stretch(addresses.filter(\.base.isIPv6) + linkLocal)
        let alone = addresses.filter {
          $0.length >= ($0.base.isIPv6 ? 128 : 32) && !gateways.contains($0.base)
        }.map(\.base)
        rule.ownIPv4 = alone.first { !$0.isIPv6 } ?? rule.ownIPv4
        rule.ownIPv6 = alone.first(where: \.isIPv6) ?? rule.ownIPv6
      }
      rules.append(rule)
    }
    self.rules = FixedArray(rules)
    self.stations = FixedArray(stations)
    self.prefixes = FixedArray(prefixes)
  }

  /// The same in memory of its own.
  func copy() -> SourceRules { SourceRules(copying: self) }

  private init(copying other: borrowing SourceRules) {
    rules = other.rules.copy()
    stations = other.stations.copy()
    prefixes = other.prefixes.copy()
  }

  @inline(__always) subscript(number: Int32) -> Rule { rules[Int(number)] }

  /// Whether a port may send from an Ethernet address, which is not the gateway's.
  @inline(__always) func mayUse(_ station: MACAddress, _ rule: borrowing Rule) -> Bool {
    guard rule.bindsStations else { return true }
    for index in rule.stations.range where stations[index] == station { return true }
    return false
  }

  /// Whose an IP address is, as a port sees it.
  @inline(__always) func owner(of address: IPAddress, _ rule: borrowing Rule) -> Owner {
    address == (address.isIPv6 ? rule.ownIPv6 : rule.ownIPv4) ? .port : find(address, rule)
  }

  @inline(never) private func find(_ address: IPAddress, _ rule: borrowing Rule) -> Owner {
    for index in rule.gateways.range
    where prefixes[index].isIPv6 == address.isIPv6 && prefixes[index].contains(address) {
      return .gateway
    }
    guard rule.bindsAddresses else { return .port }
    let own = address.isIPv6 ? rule.ipv6 : rule.ipv4
    for index in own.range where prefixes[index].contains(address) { return .port }
    return .somebodyElse
  }
}
