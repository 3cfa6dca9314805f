internal import OVXDatapath
internal import OVXLinux

/// The Ethernet addresses that bridges take over from a network card: one that has a single card
/// among its ports, as in Open vSwitch, so that a host that has moved its own address from the card
/// to the bridge stays the same to others.
///
/// What containers are attached by counts for nothing, as it comes and goes.
struct Uplinks {
  /// By the names of bridges.
  private(set) var addresses: [String: MACAddress] = [:]
  /// The addresses of cards by their names, also while a card is away.
  private var known: [String: MACAddress] = [:]

  /// Looks at the cards again.
  ///
  /// - Parameters:
  ///   - desired: Which devices are ports of which bridge.
  ///   - links: The host's devices.
  /// - Returns: The bridges whose address has changed.
  mutating func update(_ desired: DesiredState, _ links: [String: Link]) -> Set<String> {
    var cards: [String: [MACAddress]] = [:]
    var stillKnown: [String: MACAddress] = [:]
    for device in desired.devices.values {
      guard case .existing(let name) = device.place else { continue }
      if let link = links[name] {
        if link.isCard { stillKnown[name] = link.address }
      } else {
        stillKnown[name] = known[name]
      }
      if let address = stillKnown[name] { cards[device.bridge, default: []].append(address) }
    }
    known = stillKnown
    let former = addresses
    addresses = cards.filter { $0.value.count == 1 }.compactMapValues(\.first)
    return Set(former.keys).union(addresses.keys).filter { former[$0] != addresses[$0] }
  }
}

extension Link {
  /// Whether it leads out of the host: a network card, or what the kernel makes of one, such as a
  /// bond.
  var isCard: Bool { isEthernet && kind != "veth" && kind != "tun" }
}
