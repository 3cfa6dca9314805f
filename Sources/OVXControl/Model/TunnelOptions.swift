internal import OVXDatapath

extension Configuration.Tunnel {
  /// The options that a VXLAN interface has, by Open vSwitch's names.
  package static let optionNames = [
    "key", "in_key", "out_key", "remote_ip", "local_ip", "dst_port", "tos", "ttl", "df_default",
    "csum", "superframes", "flood_unknown",
  ]

  /// What Open vSwitch has for vxlan, and ovx has not, with the reason.
  private static let foreignOptions = [
    "exts": "ovx sends and receives plain VXLAN, neither its group policy (gbp) nor GPE",
    "packet_type": "the tunnels of ovx carry Ethernet frames (legacy_l2)",
    "egress_pkt_mark": "ovx marks no packets; match the UDP port instead",
    "psk": "IPsec is set up outside of ovx, on the underlay",
    "remote_cert": "IPsec is set up outside of ovx, on the underlay",
    "remote_name": "IPsec is set up outside of ovx, on the underlay",
  ]

  /// Reads the options of a VXLAN interface.
  ///
  /// - Parameter options: By name. `remote_ip` holds several addresses where commas separate them.
  /// - Throws: Which option is missing, unknown or wrong, as a sentence's part that follows "tunnel
  ///   NAME: ".
  package init(options: [String: String]) throws(ControlError) {
    if let unknown = options.keys.filter({ !Self.optionNames.contains($0) }).min() {
      throw ControlError(
        "the option \"\(printable(unknown))\" is not supported"
          + (Self.foreignOptions[unknown].map { ", as \($0)" } ?? "")
          + "; a vxlan interface takes " + Self.optionNames.joined(separator: ", ")
      )
    }
    (vni, outgoingVNI) = try Self.keys(options)
    isServedByAgent = options["remote_ip"] == Configuration.ControlPlane.evpn.rawValue
    remotes = isServedByAgent ? [] : try Self.remotes(options["remote_ip"])
    local = try options["local_ip"].map { text throws(ControlError) in
      try Self.endpoint(text, option: "local_ip")
    }
    destinationPort = try Self.port(options["dst_port"])
    trafficClass = try Self.trafficClass(options["tos"])
    hopLimit = try Self.hopLimit(options["ttl"])
    forbidsFragments = try Self.flag(options["df_default"], option: "df_default") ?? true
    hasChecksum = try Self.flag(options["csum"], option: "csum") ?? true
    injectsSuperframes = try Self.injects(options["superframes"])

    floodsUnknown = try Self.flag(options["flood_unknown"], option: "flood_unknown") ?? true
    guard !isServedByAgent else {
      guard local != nil else {
        throw ControlError(
          "remote_ip=evpn needs local_ip, the address by which other hosts know this one")
      }
      return
    }
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

  /// The VNIs of what arrives and of what is sent.
  ///
  /// `key` stands for both; of `in_key` and `out_key` alone, the other one is 0, as in Open
  /// vSwitch. None of the three would be 0 for both there, which is more likely to be forgotten
  /// than meant.
  private static func keys(_ options: [String: String]) throws(ControlError) -> (VNI, VNI) {
    let texts = ["key", "in_key", "out_key"].map { ($0, options[$0]) }
    guard texts.contains(where: { $0.1 != nil }) else {
      throw ControlError(
        "it has no key; give it the VNI, 0 to \(VNI.max), for example options:key=100"
      )
    }
    var values: [String: VNI] = [:]
    for (name, text) in texts {
      values[name] = try text.map { text throws(ControlError) in try key(text, name) }
    }
    let none = VNI(rawValue: 0)
    guard let incoming = values["in_key"] ?? values["key"] ?? none,
      let outgoing = values["out_key"] ?? values["key"] ?? none
    else { throw ControlError("it has no key") }
    return (incoming, outgoing)
  }

  private static func key(_ text: String, _ option: String) throws(ControlError) -> VNI {
    guard text != "flow" else {
      throw ControlError(
        "\(option)=flow is not supported, as ovx has no flows that could tell the VNI; "
          + "make a tunnel port for each VNI, 0 to \(VNI.max)"
      )
    }
    guard let number = number(text) else {
      throw ControlError(
        "\(option) \"\(printable(text))\" is not a number; a VNI is 0 to \(VNI.max)")
    }
    guard let value = UInt32(exactly: number), let vni = VNI(rawValue: value) else {
      throw ControlError("\(option) \(text) is not in the valid range 0 to \(VNI.max) (inclusive)")
    }
    return vni
  }

  /// A number in decimal, or in hexadecimal behind `0x`.
  private static func number(_ text: String) -> Int? {
    let isHexadecimal = text.hasPrefix("0x") || text.hasPrefix("0X")
    let digits = isHexadecimal ? String(text.dropFirst(2)) : text
    guard digits.utf8.first != UInt8(ascii: "+") else { return nil }
    return Int(digits, radix: isHexadecimal ? 16 : 10)
  }

  private static func trafficClass(_ text: String?) throws(ControlError) -> OuterField {
    guard let text else { return .value(0) }
    if text == "inherit" { return .inherited }
    guard let number = number(text), let value = UInt8(exactly: number) else {
      throw ControlError(
        "tos \"\(printable(text))\" is neither \"inherit\" nor a number from 0 to 252"
      )
    }
    guard value & ECN.mask == 0 else {
      throw ControlError(
        "tos \(printable(text)) has ECN bits, which are always copied from the packet inside; "
          + "take a multiple of 4 from 0 to 252, such as \(value & ~ECN.mask), or \"inherit\""
      )
    }
    return .value(value)
  }

  private static func hopLimit(_ text: String?) throws(ControlError) -> OuterField {
    guard let text else { return .value(64) }
    if text == "inherit" { return .inherited }
    guard let number = number(text), let value = UInt8(exactly: number), value > 0 else {
      throw ControlError(
        "ttl \"\(printable(text))\" is neither \"inherit\" nor a number from 1 to 255; "
          + "the default is 64"
      )
    }
    return .value(value)
  }

  private static func flag(_ text: String?, option: String) throws(ControlError) -> Bool? {
    switch text {
    case nil: return nil
    case "true"?: return true
    case "false"?: return false
    case let text?:
      throw ControlError("\(option) \"\(printable(text))\" is not one of true and false")
    }
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

  private static func injects(_ text: String?) throws(ControlError) -> Bool {
    switch text {
    case nil, "segment": return false
    case "inject": return true
    case let text?:
      throw ControlError(
        "superframes \"\(printable(text))\" is neither segment, which is the default, nor inject")
    }
  }

  private static func endpoint(_ text: String, option: String) throws(ControlError) -> IPAddress {
    guard text != "flow" else {
      throw ControlError("\(option)=flow is not supported, as ovx has no flows; name an address")
    }
    // With the name of a device, as ping and ip take it.
    if let zone = text.firstIndex(of: "%"), IPAddress(String(text[..<zone]))?.isIPv6 == true {
      throw ControlError(
        "\(option) \"\(text)\" is bound to a device, which ovx does not support; give both hosts "
          + "addresses that are not link-local, such as \"ip address add fd00::1/64 dev \(text[zone...].dropFirst())\""
      )
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
      } else if address.isLinkLocalIPv6 {
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

/// The elements of a list of addresses or VNIs, which commas or white space separate.
func addressList(_ text: String) -> [String] {
  text.split { $0 == "," || $0.isWhitespace }.map(String.init)
}
