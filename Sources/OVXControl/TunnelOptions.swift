internal import OVXDatapath

extension Configuration.Tunnel {
  /// The options that a VXLAN interface has, by Open vSwitch's names.
  package static let optionNames = ["key", "remote_ip", "local_ip", "dst_port"]

  /// Reads the options of a VXLAN interface.
  ///
  /// - Parameter options: By name. `remote_ip` holds several addresses where commas separate them.
  /// - Throws: Which option is missing, unknown or wrong, as a sentence's part that follows "tunnel NAME: ".
  package init(options: [String: String]) throws(ControlError) {
    if let unknown = options.keys.filter({ !Self.optionNames.contains($0) }).min() {
      throw ControlError(
        "the option \"\(unknown)\" is not supported; a vxlan interface takes "
          + Self.optionNames.joined(separator: ", ")
      )
    }
    vni = try Self.key(options["key"])
    remotes = try Self.remotes(options["remote_ip"])
    local = try options["local_ip"].map { text throws(ControlError) in
      try Self.endpoint(text, option: "local_ip")
    }
    destinationPort = try Self.port(options["dst_port"])

    if let other = remotes.first(where: { $0.isIPv6 != remotes[0].isIPv6 }) {
      throw ControlError(
        "remote_ip has both \(remotes[0]) and \(other), but the remotes of one tunnel are all IPv4 or "
          + "all IPv6; make a second tunnel port with the same key for the others"
      )
    }
    if let local, local.isIPv6 != remotes[0].isIPv6 {
      throw ControlError(
        "local_ip \(local) and remote_ip \(remotes[0]) are of different families; "
          + "give both IPv4 addresses or both IPv6 ones"
      )
    }
    if let local, remotes.contains(local) {
      throw ControlError(
        "\(local) is both local_ip and remote_ip; remote_ip is the address of the other host"
      )
    }
  }

  private static func key(_ text: String?) throws(ControlError) -> VNI {
    guard let text else {
      throw ControlError(
        "it has no key; give it the VNI, 0 to \(VNI.max), for example options:key=100"
      )
    }
    guard text != "flow" else {
      throw ControlError(
        "key=flow is not supported, as ovx has no flows; give it a VNI, 0 to \(VNI.max)"
      )
    }
    let isHexadecimal = text.hasPrefix("0x") || text.hasPrefix("0X")
    let digits = isHexadecimal ? String(text.dropFirst(2)) : text
    guard digits.utf8.first != UInt8(ascii: "+"),
      let number = Int(digits, radix: isHexadecimal ? 16 : 10)
    else {
      throw ControlError("key \"\(text)\" is not a number; a VNI is 0 to \(VNI.max)")
    }
    guard let value = UInt32(exactly: number), let vni = VNI(rawValue: value) else {
      throw ControlError("key \(text) is not in the valid range 0 to \(VNI.max) (inclusive)")
    }
    return vni
  }

  private static func remotes(_ text: String?) throws(ControlError) -> [IPAddress] {
    let parts = text.map(addressList) ?? []
    guard !parts.isEmpty else {
      throw ControlError(
        "it has no remote_ip; give it the address of the other host, "
          + "or several separated by commas, for example options:remote_ip=192.168.5.3"
      )
    }
    var remotes: [IPAddress] = []
    var seen: Set<IPAddress> = []
    for part in parts {
      let remote = try endpoint(part, option: "remote_ip")
      guard seen.insert(remote).inserted else {
        throw ControlError("remote_ip has \(remote) twice; name each remote once")
      }
      remotes.append(remote)
    }
    return remotes
  }

  private static func port(_ text: String?) throws(ControlError) -> UInt16 {
    guard let text else { return defaultPort }
    guard let port = UInt16(text), port > 0, text.utf8.first != UInt8(ascii: "+") else {
      throw ControlError(
        "dst_port \(text) is not in the valid range 1 to 65535 (inclusive); "
          + "the default is \(defaultPort)"
      )
    }
    return port
  }

  private static func endpoint(_ text: String, option: String) throws(ControlError) -> IPAddress {
    guard text != "flow" else {
      throw ControlError("\(option)=flow is not supported, as ovx has no flows; name an address")
    }
    guard let address = IPAddress(text) else {
      throw ControlError(
        "\(option) \"\(text)\" is not an IPv4 or IPv6 address; names are not looked up, "
          + "so type the address itself"
      )
    }
    let fault =
      if address.isUnspecified {
        "is the unspecified address"
      } else if address.isMulticast {
        "is a multicast address"
      } else if address.isLimitedBroadcast {
        "is the broadcast address"
      } else if address.isIPv4Mapped {
        "is an IPv4 address in IPv6 form; write it as an IPv4 address"
      } else if address.isIPv6, address.high >> 54 == 0xFE80 >> 6 {
        "is a link-local address, which is not unique on a host"
      } else {
        ""
      }
    guard fault.isEmpty else {
      let remedy =
        option == "local_ip"
        ? "it must be an address of this host, or be left out for any"
        : "it must be the unicast address of one other host; "
          + "for several hosts separate their addresses by commas"
      throw ControlError("\(option) \(text) \(fault); \(remedy)")
    }
    return address
  }
}

/// The elements of a list of addresses, which commas or white space separate.
func addressList(_ text: String) -> [String] {
  text.split { $0 == "," || $0.isWhitespace }.map(String.init)
}
