internal import OVXControl
internal import OVXDatapath

/// Which addresses a gateway gives to whom by DHCP: those that the members have been given already,
/// and no others.
///
/// To each one of IPv4, and one of each IPv6 subnet. As a file of dnsmasq's, which keeps all that
/// has to be known after a restart.
struct Leases: Equatable {
  /// The addresses, each of one station.
  private(set) var stations: [IPAddress: MACAddress] = [:]
  /// Those among them that another host has told of.
  private var remote: Set<IPAddress> = []
  /// What was given before and is not any more, and may still be in dnsmasq's memory.
  private var former: [IPAddress: MACAddress] = [:]

  /// Addresses that one network's gateway gives at most.
  static let limit = 16384

  init() {}

  /// Chooses an address for each member.
  ///
  /// A member of this host is believed before what other hosts have told; who was told of once is
  /// known until somebody else has its address, as a silent container is still there.
  ///
  /// - Parameters:
  ///   - members: Of the network.
  ///   - gateway: Which subnets there are, and which addresses are its own.
  ///   - old: The leases until now.
  init(_ members: [Member], of gateway: Gateway, after old: Leases) {
    struct Place: Hashable {
      var station: MACAddress
      var subnet: IPPrefix
    }
    let subnets = gateway.servedSubnets
    var taken: Set<Place> = []
    var local: Set<MACAddress> = []
    func add(_ address: IPAddress, _ station: MACAddress, isRemote: Bool) {
      guard let subnet = subnets.first(where: { $0.stations.contains(address) }),
        !gateway.addresses.contains(address), !station.isGroup, stations.count < Self.limit,
        stations[address] == nil,
        // A station's IPv6 addresses are one line, which is of here or of elsewhere.
        !(isRemote && address.isIPv6 && local.contains(station)),
        taken.insert(Place(station: station, subnet: subnet)).inserted
      else { return }
      stations[address] = station
      if isRemote { remote.insert(address) }
      if !isRemote, address.isIPv6 { local.insert(station) }
    }
    for isRemote in [false, true] {
      for member in members where member.isRemote == isRemote {
        guard let station = member.station else { continue }
        for address in member.addresses { add(address, station, isRemote: isRemote) }
      }
    }
    for address in old.remote.sorted() {
      if let station = old.stations[address] { add(address, station, isRemote: true) }
    }
    former = old.former
    for (address, station) in old.stations where stations[address] != station {
      former[address] = station
    }
    former = former.filter { stations[$0.key] != $0.value }
  }

  /// Reads the file; what is no line of ours is left out.
  init(_ text: String) {
    for line in text.split(separator: "\n") {
      let isFormer = line.hasPrefix("# ")
      let words = line.drop { "# ".contains($0) }.split(separator: ",")
      guard words.count >= 2, let station = MACAddress(String(words[0])) else { continue }
      let isRemote = words.last == "set:remote"
      for word in words.dropFirst() {
        guard let address = IPAddress(word.trimmingPrefix("[").filter { $0 != "]" }) else {
          continue
        }
        if isFormer {
          former[address] = station
        } else {
          stations[address] = station
          if isRemote { remote.insert(address) }
        }
      }
    }
  }

  /// The file.
  var text: String {
    var lines: [String] = []
    for (address, station) in former.sorted(by: { $0.key < $1.key }) {
      lines.append("# \(station),\(address)")
    }
    // Of several lines of a station's with IPv6 addresses dnsmasq takes one.
    var together: [MACAddress: [IPAddress]] = [:]
    for (address, station) in stations.sorted(by: { $0.key < $1.key }) {
      if address.isIPv6 {
        together[station, default: []].append(address)
      } else {
        lines.append("\(station),\(address)\(mark(address))")
      }
    }
    for (station, addresses) in together.sorted(by: { $0.value[0] < $1.value[0] }) {
      let words = addresses.map { "[\($0)]" }.joined(separator: ",")
      lines.append("\(station),\(words)\(mark(addresses[0]))")
    }
    return lines.map { $0 + "\n" }.joined()
  }

  private func mark(_ address: IPAddress) -> String {
    remote.contains(address) ? ",set:remote" : ""
  }

  /// Who has an IPv6 address.
  var clients: Set<MACAddress> { Set(stations.lazy.filter(\.key.isIPv6).map(\.value)) }

  /// Whether an address has another station than dnsmasq may remember, so that it has to forget.
  var isContradicting: Bool {
    former.contains { stations[$0.key] != nil }
  }

  /// Whether that is so of what a member of this host has.
  var isContradictingHere: Bool {
    former.contains { stations[$0.key] != nil && !remote.contains($0.key) }
  }

  /// The same where nothing is remembered.
  var withoutFormer: Leases {
    var leases = self
    leases.former = [:]
    return leases
  }
}
