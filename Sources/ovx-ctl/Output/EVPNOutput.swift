internal import OVXControl

extension EVPNState {
  /// The state with its networks below it, in the manner of `show`.
  var tree: String {
    var lines: [String] = []
    lines.append("Engine: \(engine ? "gobgpd answers" : "gobgpd does not answer")")
    if let asn { lines.append("    AS: \(asn)") }
    if let routerID { lines.append("    router id: \(routerID)") }
    lines.append(
      "    graceful restart: \(gracefulRestart ? "on" : "off, as gobgpd 3.10 ends upon it")")
    if let local { lines.append("Local VTEP: \(local)") }
    for peer in peers { lines.append("Peer \(peer.address): AS \(peer.asn), \(peer.state)") }
    if engine, peers.isEmpty { lines.append("Peers: none") }
    if let holding {
      let end = hold == 0 ? "until they tell again" : "for \(hold) s"
      lines.append("Holding what others have told \(end); that has begun \(holding) s ago")
    }
    for host in held {
      lines.append(
        "Holding \(host.routes) routes of \(host.vtep), which were withdrawn \(host.seconds) s ago: it is still there"
      )
    }
    for error in errors { lines.append("Error: \"\(printable(error))\"") }
    for network in networks {
      lines.append("Network \(printable(network.name))")
      lines.append("    vni: \(network.vni)")
      lines.append("    route distinguisher: \(network.distinguisher)")
      lines.append("    route target: \(network.target)")
      lines.append("    VTEPs: \(network.vteps)")
      lines.append(
        "    stations: \(network.stations) of other hosts, \(network.localStations) of this one")
      for mac in network.frozen {
        lines.append(
          "    frozen: \(mac), which has moved too often; \"ovx-ctl evpn unfreeze \(printable(network.name)) \(mac)\""
        )
      }
      for duplicate in network.duplicates {
        lines.append("    duplicate: \(duplicate.mac), which \(duplicate.vtep) tells of, too")
      }
    }
    for (reason, count) in ignored.sorted(by: { $0.key < $1.key }) {
      lines.append("Ignored routes: \(count), with \(reason)")
    }
    return lines.map { $0 + "\n" }.joined()
  }
}

/// The networks that EVPN serves as a table, a line each.
func evpnNetworkTable(_ state: EVPNState) -> TextTable {
  TextTable(
    ["Network", "VNI", "Distinguisher", "Target", "VTEPs", "Stations", "Local", "Frozen"],
    state.networks.map { network in
      [
        .text(network.name), .scalar(Atom(network.vni)), .text(network.distinguisher),
        .text(network.target), .number(network.vteps), .number(network.stations),
        .number(network.localStations), .number(network.frozen.count),
      ]
    })
}

/// Routes as a table, a line each.
func evpnRouteTable(_ routes: [EVPNRoute]) -> TextTable {
  TextTable(
    ["Network", "Type", "MAC", "IP", "VTEP", "Distinguisher", "Sequence", "Flags"],
    routes.map { route in
      let flags = [
        route.isLocal ? "local" : nil, route.isBest ? "best" : nil,
        route.isSticky ? "sticky" : nil, route.isGateway ? "gateway" : nil,
      ].compactMap { $0 }
      return [
        .text(route.network), .number(route.type), .scalar(route.mac.map { .text("\($0)") }),
        .scalar(route.ip.map { .text("\($0)") }), .text("\(route.vtep)"),
        .text(route.distinguisher), .scalar(route.sequence.map { .integer(Int($0)) }),
        .text(flags.joined(separator: " ")),
      ]
    })
}

/// VTEPs as a table, a line each.
func evpnVTEPTable(_ vteps: [EVPNVTEP]) -> TextTable {
  TextTable(
    ["Network", "VTEP", "Stations", "Broadcasts"],
    vteps.map { vtep in
      [
        .text(vtep.network), .text("\(vtep.vtep)"), .number(vtep.stations),
        .scalar(.boolean(vtep.takesBroadcasts)),
      ]
    })
}
