internal import OVXControl
internal import OVXDatapath

/// What follows from what the daemon says of itself, and from what was seen of the host.
struct Diagnosis {
  var show: Show
  var tunnels: Tunnels
  var drops: [Drop]
  var networks: [NetworkDescription]
  /// Hosts behind which addresses were learned within the last minute.
  var heard: Set<IPAddress>
  var host = HostFacts()

  /// All findings: ports, networks and tunnels, then the host, then what was lost.
  var findings: [Finding] {
    portFindings + networkFindings + remoteFindings + filterFindings + hostFindings + lossFindings
  }

  /// The remotes of all tunnels, each once, with the local addresses that they are sent to from.
  var remotes: [IPAddress: IPAddress?] {
    var remotes: [IPAddress: IPAddress?] = [:]
    for tunnel in tunnels.tunnels {
      for remote in tunnel.remotes { remotes[remote.address] = .some(tunnel.local) }
    }
    return remotes
  }

  private var portFindings: [Finding] {
    var findings: [Finding] = []
    var sound = 0
    for bridge in show.bridges {
      for port in bridge.ports {
        if let error = port.interface.error {
          findings.append(Finding(.fault, "port \(port.name)", error))
        } else {
          sound += 1
        }
      }
    }
    if sound > 0 {
      findings.insert(
        Finding(.ok, "ports", "\(sound) \(sound == 1 ? "is" : "are") in service"), at: 0)
    }
    if show.bridges.isEmpty {
      findings.append(
        Finding(.note, "ports", "there is no bridge", remedy: "`ovx-ctl add-br br0` makes one"))
    }
    return findings
  }

  private var networkFindings: [Finding] {
    gatewayFindings
      + networks.compactMap { network in
        // What is wrong with a port has been told with that.
        guard network.error == nil, !network.subnets.isEmpty else { return nil }
        let name = "network \(network.name)"
        guard network.addressesFree == 0 else {
          return Finding(
            .ok, name, "\(network.addressesUsed) addresses used, \(network.addressesFree) free")
        }
        return Finding(
          .fault, name, "no address is free for who is attached next",
          remedy:
            "detach what is gone (`ovx-ctl detach --stale`), or give it another subnet or range"
        )
      }
  }

  /// What is wrong with gateways: what is with several of them is told once.
  private var gatewayFindings: [Finding] {
    var order: [String] = []
    var affected: [String: [String]] = [:]
    for network in networks {
      for sentence in network.gatewayErrors {
        if affected[sentence] == nil { order.append(sentence) }
        affected[sentence, default: []].append(network.name)
      }
    }
    return order.map { sentence in
      let names = affected[sentence] ?? []
      let more = names.count > 4 ? " and \(names.count - 4) more" : ""
      return Finding(
        .fault,
        "gateway\(names.count == 1 ? "" : "s") of \(names.prefix(4).joined(separator: ", "))\(more)",
        sentence)
    }
  }

  private var remoteFindings: [Finding] {
    var findings: [Finding] = []
    for tunnel in tunnels.tunnels {
      for remote in tunnel.remotes {
        let subject = "tunnel \(tunnel.port) to \(remote.address)"
        guard remote.error == nil, let mtu = remote.mtu, let device = remote.device else {
          // Of the tunnel as a whole the port has told.
          if let error = remote.error, tunnel.remotes.count > 1 {
            findings.append(Finding(.fault, subject, error))
          }
          continue
        }
        let way = "by \(device), packets of up to \(mtu) bytes"
        if mtu < 1280 {
          findings.append(
            Finding(
              .fault, subject, "\(way), which is less than the 1280 that IPv6 needs",
              remedy: "give the path between the hosts a larger MTU"))
        } else if heard.contains(remote.address) {
          findings.append(Finding(.ok, subject, "\(way), heard within the last minute"))
        } else if let isAnswering = host.answers[remote.address] {
          findings.append(
            isAnswering
              ? Finding(.ok, subject, "\(way), answers ping")
              : Finding(
                .fault, subject,
                "\(way), but it does not answer ping, and nothing was heard from it lately",
                remedy:
                  "is the host up, and is there a firewall between the two? UDP port \(tunnel.destinationPort) must pass both ways"
              ))
        } else {
          findings.append(Finding(.ok, subject, "\(way), not asked whether it is there"))
        }
      }
    }
    return findings
  }

  private var filterFindings: [Finding] {
    var findings: [Finding] = []
    switch tunnels.filter?.state {
    case .failed:
      findings.append(
        Finding(
          .fault, "underlay filter",
          tunnels.filter?.error
            ?? "other programs of this host can send VXLAN to the tunnels' remotes"))
    case .off:
      findings.append(
        Finding(
          .note, "underlay filter",
          "it is off, so other programs of this host, and containers behind its NAT, can send VXLAN into tenants' networks",
          remedy: "start ovx-vswitchd without --no-underlay-filter"))
    case .on, nil: break
    }
    for barrier in host.barriers {
      // What arrives nevertheless, or is not refused, says that some rule lets it pass.
      let passes =
        barrier.direction == .incoming
        ? !heard.isEmpty : !drops.contains { $0.reason == "underlay-refused" }
      let proof =
        barrier.direction == .incoming ? "; yet datagrams arrive" : "; yet none was refused"
      findings.append(
        Finding(
          passes ? .note : .fault, "firewall", barrier.sentence + (passes ? proof : ""),
          remedy: barrier.remedy))
    }
    return findings
  }

  private var hostFindings: [Finding] {
    var findings: [Finding] = []
    for feature in tunnels.features where feature.contains("(") {
      findings.append(Finding(.note, "kernel", feature, remedy: "a newer kernel is faster"))
    }
    let devices = Set(tunnels.tunnels.flatMap(\.remotes).compactMap(\.device)).sorted()
    for device in devices where !host.encryptingDevices.contains(device) {
      findings.append(
        Finding(
          .note, "underlay",
          "VXLAN is not encrypted, and nothing shows that \(device) is: whoever is on the way reads tenants' packets, and can "
            + "make some",
          remedy:
            "where the network between the hosts is not yours alone, put WireGuard or IPsec underneath"
        ))
    }
    if host.isClockSynchronized == false {
      findings.append(
        Finding(
          .note, "clock", "nothing keeps this host's clock, so times in logs differ between hosts",
          remedy: "run chrony or systemd-timesyncd"))
    }
    return findings + host.omissions.map { Finding(.note, "host", $0) }
  }

  /// Reasons that come of something that is set up wrongly somewhere, rather than of what tenants
  /// do.
  private static let misconfigurations: Set = [
    "unknown-vtep", "unknown-vni", "remote-not-listening", "underlay-refused", "wrong-device",
    "exceeds-tunnel-mtu",
    "exceeds-device-mtu", "loop", "mixed-vnis",
  ]

  private var lossFindings: [Finding] {
    drops.filter { Self.misconfigurations.contains($0.reason) }.map { drop in
      Finding(
        .note, drop.port.map { "port \($0)" } ?? "underlay",
        "\(drop.count) lost for \(drop.reason) since the start: \(drop.sentence)",
        remedy: "look twice: what counts up is your problem")
    }
  }
}
