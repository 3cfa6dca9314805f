internal import OVXControl

extension NetworkDescription {
  /// The network with its members below it, in the manner of `show`.
  var tree: String {
    var lines = ["Network \(printable(name))"]
    func add(_ line: String) { lines.append("    " + line) }
    func list(_ values: [some CustomStringConvertible]) -> String {
      values.map(\.description).joined(separator: ", ")
    }
    add("vni: \(vni)")
    add("segment: VLAN \(tag) of bridge \(bridge)")
    if !subnets.isEmpty {
      add("subnet: \(list(subnets))")
      if !ranges.isEmpty { add("range: \(list(ranges))") }
      if !gateways.isEmpty {
        let port = gatewayPort.map { ", port \($0)" } ?? ""
        add("gateway: \(list(gateways)) (\(gatewayMode.rawValue), nat \(nat.rawValue)\(port))")
      }
      let services = [dhcp ? "DHCP" : nil, dns ? "DNS" : nil].compactMap { $0 }
      if !services.isEmpty { add("serves: \(list(services))") }
      add("addresses: \(addressesUsed) used, \(addressesFree) free")
    }
    if let gatewayState, gatewayState != .up { add("gateway state: \(gatewayState.rawValue)") }
    if let domain { add("domain: \(domain)") }
    if remotes.isEmpty { add("remotes: none, so the network is on this host only") }
    for remote in remotes {
      add("Remote \(remote.address)")
      if let mtu = remote.mtu { add("    mtu: \(mtu)") }
      if let error = remote.error { add("    error: \"\(error)\"") }
    }
    for error in [error].compactMap(\.self) + gatewayErrors.filter({ $0 != error }) {
      add("error: \"\(error)\"")
    }
    for member in members {
      add("Port \(printable(member.port))")
      if !member.addresses.isEmpty { add("    address: \(list(member.addresses))") }
      if let mac = member.mac { add("    mac: \(mac)") }
      if !member.published.isEmpty { add("    published: \(list(member.published))") }
      if let error = member.error { add("    error: \"\(error)\"") }
    }
    return lines.map { $0 + "\n" }.joined()
  }
}

/// Networks as a table, a line each.
func networkTable(_ networks: [NetworkDescription]) -> TextTable {
  TextTable(
    ["Network", "VNI", "Bridge", "VLAN", "Subnets", "Remotes", "Members", "Free", "Error"],
    networks.map { network in
      [
        .text(network.name), .scalar(Atom(network.vni)), .text(network.bridge),
        .scalar(Atom(network.tag)), .set(network.subnets.map { .text("\($0)") }),
        .set(network.remotes.map { .text("\($0.address)") }),
        .number(network.members.count), .number(network.addressesFree),
        .scalar(network.error.map(Atom.text)),
      ]
    })
}
