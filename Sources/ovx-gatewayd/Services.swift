internal import OVXControl
internal import OVXDatapath

/// What a gateway serves to the members of its network.
struct Services: Equatable {
  var dhcp: Bool
  var dns: Bool
  /// What members' names are in; a valid name of a domain, or `nil`.
  var domain: String?
  /// The MTU that members are told, in bytes of IP packet; `nil` for that of the gateway's own
  /// device.
  var mtu: Int?

  /// Whether there is anything to serve.
  var isAny: Bool { dhcp || dns }
}

/// Somebody in a network, as the switch knows of him.
struct Member: Hashable {
  /// `nil` where it is not known.
  var station: MACAddress?
  /// A label of DNS in small letters; `nil` for one without a name.
  var name: String?
  var addresses: [IPAddress]
  /// Whether it is another host's, which has told of it by the tunnel: its name is not known here.
  var isRemote = false

  /// The name of a port's container: of `eth0@web1` it is `web1`; what cannot be in a name becomes
  /// a hyphen.
  static func name(ofPort port: String) -> String? {
    let container = port.split(separator: "@", maxSplits: 1).last.map(String.init) ?? port
    let mapped = container.lowercased().unicodeScalars.map { scalar in
      isHostLabel(String(scalar)) ? Character(scalar) : "-"
    }
    let trimmed = String(mapped).split(separator: "-").joined(separator: "-")
    return isHostLabel(trimmed) ? trimmed : nil
  }
}
