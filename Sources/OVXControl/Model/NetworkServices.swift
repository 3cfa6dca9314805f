private import OVXDatapath

// What a network's gateway serves to its members: addresses by DHCP, and names by DNS.
// `ovx-gatewayd` does it.

extension Configuration.Network {
  /// Checks that what is served goes together with the gateway, and that the domain is one.
  func validateServices() throws(ControlError) {
    if let domain, let fault = faultOfDomain(domain) {
      throw ControlError(
        "network \(name): \"\(printable(brief(domain)))\" is no domain name: \(fault); it looks like red.example"
      )
    }
    for service in [dhcp ? "dhcp" : nil, dns ? "dns" : nil].compactMap({ $0 }) {
      guard !gateways.isEmpty else {
        throw ControlError(
          "network \(name): \(service)=true is what its gateway does, and it has none; name its address with "
            + "\(subnets.isEmpty ? "subnet=ADDRESS/LENGTH and " : "")gateway=ADDRESS, or leave \(service)=false"
        )
      }
      guard gatewayMode != .remote else {
        throw ControlError(
          "network \(name): \(service)=true is done where the gateway is, which gateway_mode=remote says is another "
            + "host; say \(service) there, and leave \(service)=false here")
      }
    }
    guard !dhcp || gateways.contains(where: { subnet(of: $0)?.takesDHCP == true }) else {
      throw ControlError(
        "network \(name): dhcp=true gives members addresses of its gateway's subnets, of which IPv6 ones are to be /64 or "
          + "longer; name such a subnet and the gateway's address in it, or leave dhcp=false")
    }
  }
}

extension IPPrefix {
  /// Whether a DHCP server can give addresses of it: what serves IPv6 (dnsmasq) knows no subnets
  /// that are wider than /64.
  package var takesDHCP: Bool { !base.isIPv6 || length >= 64 }
}

/// What keeps a text from being the name of a domain (RFC 1035, RFC 1123); `nil` where it is one.
private func faultOfDomain(_ text: String) -> String? {
  guard text.utf8.count <= 253 else {
    return "it has \(text.utf8.count) bytes, of which it may have 253"
  }
  for label in text.split(separator: ".", omittingEmptySubsequences: false) {
    guard isHostLabel(label) else {
      return
        "its parts are 1 to 63 letters, digits and hyphens, and neither begin nor end with a hyphen"
    }
  }
  return nil
}

/// Whether a text is one part of a host's name (RFC 1123, section 2.1): 1 to 63 letters, digits and
/// inner hyphens.
package func isHostLabel(_ text: some StringProtocol) -> Bool {
  let bytes = Array(text.utf8)
  let hyphen = UInt8(ascii: "-")
  return (1...63).contains(bytes.count) && bytes.first != hyphen && bytes.last != hyphen
    && bytes.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), hyphen:
        true
      default: false
      }
    }
}
