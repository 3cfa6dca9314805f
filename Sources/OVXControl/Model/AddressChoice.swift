package import OVXDatapath

/// What is known of an address that a network is about to give to somebody.
package enum AddressState: Equatable, Sendable {
  /// It was asked for a moment ago, and nobody has answered.
  case free
  /// Somebody was asked a moment ago, and has answered.
  case taken(MACAddress)
  /// Somebody has told a while ago that it is his, without being asked for this; he may have gone.
  case told(MACAddress)
  /// Nobody was asked.
  case unknown
}

/// An address to ask for before it is given to somebody.
package struct AddressQuestion: Hashable, Sendable {
  package var bridge: String
  package var vlan: VLANID
  package var address: IPAddress

  package init(bridge: String, vlan: VLANID, address: IPAddress) {
    self.bridge = bridge
    self.vlan = vlan
    self.address = address
  }

  init(_ network: Configuration.Network, _ address: IPAddress) {
    self.init(bridge: network.bridge, vlan: network.tag, address: address)
  }
}

extension Configuration {
  /// How many addresses of a network are its members' and gateways', and how many more this host
  /// may hand out.
  func use(of network: Network) -> (used: Int, free: Int) {
    let taken = takenAddresses(of: network)
    // Whoever is attached takes one of each subnet.
    var free = network.subnets.isEmpty ? 0 : Int.max
    for subnet in network.subnets {
      var here = 0
      for range in network.ranges(in: subnet) {
        let (sum, isTooMany) = here.addingReportingOverflow(
          range.count - taken.keys.count { range.contains($0) })
        here = isTooMany ? .max : sum
      }
      free = min(free, max(here, 0))
    }
    return (taken.count, free)
  }

  /// Whose the addresses of a network are that have been given to somebody: clauses such as "port
  /// eth0@web1's".
  func takenAddresses(of network: Network) -> [IPAddress: String] {
    var taken: [IPAddress: String] = [:]
    for gateway in network.gateways { taken[gateway] = "the gateway's" }
    for address in network.reserved { taken[address] = "reserved" }
    for member in members(of: network.name) {
      for address in member.interface.attachment?.addresses ?? member.interface.addresses {
        taken[address.address] = "port \(printable(member.name))'s"
      }
    }
    return taken
  }
}

extension Transaction {
  /// Gives an attachment to a network what it does not ask for: an address of each subnet, and the
  /// gateways as routers.
  ///
  /// - Parameters:
  ///   - attachment: As it was asked for.
  ///   - network: Where.
  ///   - former: What it has been so far; `nil` for a new one.
  ///   - mac: The link layer address that is asked for; `nil` for the switch's choice. Whoever asks
  ///     for an address of the network and for the MAC that answers for it is that station, come
  ///     from another host, of which that host's last words have not arrived yet.
  /// - Returns: The attachment with addresses and gateways.
  /// - Throws: That an address is none of the network's, or is somebody's, or that there are none
  ///   left.
  mutating func addressed(
    _ attachment: Configuration.Attachment, in network: Configuration.Network,
    former: Configuration.Attachment?, mac: MACAddress? = nil
  ) throws(ControlError) -> Configuration.Attachment {
    var attachment = attachment
    let own = Set(former?.addresses ?? [])
    var taken = configuration.takenAddresses(of: network)
    for address in own { taken[address.address] = nil }
    for address in attachment.addresses {
      try check(address, network, taken, isOwn: own.contains(address), mac: mac)
    }
    guard !network.subnets.isEmpty || !attachment.addresses.isEmpty else {
      throw ControlError(
        "network \(network.name) has no subnet to take an address from; give one with ip=ADDRESS/LENGTH, or the "
          + "network a subnet with \"set network \(network.name) subnet=ADDRESS/LENGTH\"")
    }
    for subnet in network.subnets
    where !attachment.addresses.contains(where: { subnet.contains($0.address) }) {
      if let kept = own.first(where: { subnet.contains($0.address) }) {
        attachment.addresses.append(kept)
        continue
      }
      // Who asks for an address of a family has chosen among its subnets.
      guard !attachment.addresses.contains(where: { $0.address.isIPv6 == subnet.base.isIPv6 })
      else {
        continue
      }
      let address = try freeAddress(in: subnet, of: network, taken)
      taken[address] = "this"
      attachment.addresses.append(InterfaceAddress(address, prefixLength: subnet.length))
    }
    if attachment.gateways.isEmpty {
      attachment.gateways = network.gateways.filter { gateway in
        attachment.addresses.contains { $0.contains(gateway) }
      }
    }
    return attachment
  }

  /// Keeps an address of a network for a program that attaches by itself, such as Docker's driver.
  ///
  /// - Parameters:
  ///   - name: The network.
  ///   - subnet: Which of its subnets; `nil` for the first.
  ///   - address: The address; `nil` for a free one.
  /// - Returns: The address with the length of its prefix.
  /// - Throws: That there is no such network or subnet, or none free, or that it is somebody's.
  mutating func reserveAddress(
    in name: String, of subnet: IPPrefix?, _ address: IPAddress?
  ) throws(ControlError) -> Reply {
    guard let network = configuration.networks[name] else { throw noNetwork(name) }
    guard let subnet = subnet ?? network.subnets.first, network.subnets.contains(subnet) else {
      throw ControlError(
        "network \(name) has no subnet\(subnet.map { " \($0)" } ?? "") to take an address from; "
          + "\"set network \(name) subnet=ADDRESS/LENGTH\" gives it one")
    }
    guard network.reserved.count < 16384 else {
      throw ControlError("network \(name) has 16384 reserved addresses, and can have no more")
    }
    let taken = configuration.takenAddresses(of: network)
    let chosen: IPAddress
    if let address {
      try check(
        InterfaceAddress(address, prefixLength: subnet.length), network, taken, isOwn: false)
      chosen = address
    } else {
      chosen = try freeAddress(in: subnet, of: network, taken)
    }
    configuration.networks[name]?.reserved = (network.reserved + [chosen]).sorted()
    return .names(["\(InterfaceAddress(chosen, prefixLength: subnet.length))"])
  }

  /// Gives a reserved address back; does nothing where it is not reserved.
  mutating func releaseAddress(in name: String, _ address: IPAddress) {
    configuration.networks[name]?.reserved.removeAll { $0 == address }
  }

  private mutating func check(
    _ address: InterfaceAddress, _ network: Configuration.Network, _ taken: [IPAddress: String],
    isOwn: Bool, mac: MACAddress? = nil
  ) throws(ControlError) {
    if !network.subnets.isEmpty {
      let subnets = shortened(network.subnets.map(\.description))
      guard let subnet = network.subnet(of: address.address),
        subnet.stations.contains(address.address)
      else {
        throw ControlError(
          "ip \(address) is no station's address in the subnets of network \(network.name) (\(subnets)); "
            + "leave it out for a free one")
      }
      guard subnet.length == address.prefixLength else {
        throw ControlError(
          "ip \(address) has another prefix length than subnet \(subnet) of network \(network.name); "
            + "type \(address.address)/\(subnet.length)")
      }
    }
    if let owner = taken[address.address] {
      throw ControlError(
        "ip \(address.address) is \(owner) in network \(network.name); leave it out for a free one")
    }
    guard !isOwn else { return }
    let question = AddressQuestion(network, address.address)
    switch live.addressStates([question])[0] {
    case .free: break
    case .unknown, .told: questions.append(question)
    case .taken(let station) where station == mac: break
    case .taken(let station):
      throw ControlError(
        "ip \(address.address) is in use in network \(network.name), by \(station), which has answered for it; "
          + "leave it out for a free one")
    }
  }

  /// The lowest address of a subnet that is nobody's, as far as is known.
  ///
  /// Whoever has told that an address is his is passed over without a question, as a segment may
  /// have thousands of stations; only where nothing else is left are some of them asked whether
  /// they are still there.
  private mutating func freeAddress(
    in subnet: IPPrefix, of network: Configuration.Network, _ taken: [IPAddress: String]
  ) throws(ControlError) -> IPAddress {
    var unknown: [AddressQuestion] = []
    var told: [AddressQuestion] = []
    var answered = 0
    var found: IPAddress?
    var next: [AddressQuestion] = []
    var candidates = Candidates(subnet: subnet, network: network, taken: taken)
    search: while true {
      let questions = candidates.next()
      if questions.isEmpty { break }
      for (question, state) in zip(questions, live.addressStates(questions)) {
        switch state {
        case .free where found == nil: found = question.address
        case .free: next.append(question)
        case .taken: answered += 1
        case .told: told.append(question)
        case .unknown where found != nil: next.append(question)
        case .unknown:
          unknown.append(question)
          // More than one is asked for, as others come at the same time; and the more the more of
          // them are found to be somebody's.
          if unknown.count >= max(Self.questionLimit, min(2 * answered, Self.toldLimit)) {
            break search
          }
        }
        if next.count == Self.questionLimit { break search }
      }
    }
    if let found {
      // Who comes next need not wait for the answers.
      prospects += unknown + next
      return found
    }
    if unknown.isEmpty { unknown = Array(told.prefix(max(Self.toldLimit - answered, 0))) }
    questions += unknown
    guard let chosen = unknown.first?.address else {
      guard !network.ranges(in: subnet).isEmpty else {
        throw ControlError(
          "network \(network.name): its range has no address of subnet \(subnet), so this host hands out none of that; "
            + "add some with \"add network \(network.name) range FIRST-LAST\", or name the address with ip="
        )
      }
      let ranges = network.ranges.isEmpty ? "" : " in the range of this host"
      throw ControlError(
        "network \(network.name) has no free address left in subnet \(subnet)\(ranges): "
          + "\(taken.keys.count { subnet.contains($0) }) are given to somebody"
          + (answered + told.count > 0 ? ", and \(answered + told.count) answered for" : "")
          + "; detach something, or widen range or subnet")
    }
    return chosen
  }

  /// Addresses that are asked for at a time where few are somebody's.
  private static let questionLimit = 32
  /// Addresses that are asked for at a time at most, and stations that are asked whether they are
  /// still there.
  private static let toldLimit = 256
}

/// The addresses of a subnet that may be given to somebody as far as the configuration goes, lowest
/// first.
private struct Candidates {
  private let network: Configuration.Network
  private let taken: [IPAddress: String]
  private var ranges: ArraySlice<AddressRange>
  /// The next number in the first of them; `nil` for that range's first.
  private var number: UInt128?
  /// How many are given at a time, as each time the workers are asked for what they know of them:
  /// few to begin with, since most often the first will do.
  private var count = 64

  init(subnet: IPPrefix, network: Configuration.Network, taken: [IPAddress: String]) {
    self.network = network
    self.taken = taken
    ranges = network.ranges(in: subnet)[...]
  }

  /// The next ones; none at the end.
  mutating func next() -> [AddressQuestion] {
    var questions: [AddressQuestion] = []
    while questions.count < count, let range = ranges.first {
      let number = number ?? range.numbers.lowerBound
      let address = IPAddress(number: number, isIPv6: range.isIPv6)
      if taken[address] == nil { questions.append(AddressQuestion(network, address)) }
      if number < range.numbers.upperBound {
        self.number = number + 1
      } else {
        self.number = nil
        ranges.removeFirst()
      }
    }
    count = min(2 * count, 1024)
    return questions
  }
}

extension InterfaceAddress {
  init(_ address: IPAddress, prefixLength: Int) {
    self.address = address
    self.prefixLength = prefixLength
  }
}
