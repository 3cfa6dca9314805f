internal import OVXControl
internal import OVXDatapath

// How large the packets of a port may be. That goes by its segments, a VLAN of a bridge each: by
// the narrowest tunnel and the narrowest device of others in them. What another tenant has in other
// segments of the same bridge does not count.

/// The largest packet that something takes, and what that is.
struct SizeBound: Equatable {
  /// Bytes of an IP packet.
  var mtu: Int
  var culprit: Culprit

  enum Culprit: Equatable {
    case tunnel(String, remote: IPAddress)
    case device(String)
  }

  /// What takes no more, for a sentence.
  var owner: String {
    switch culprit {
    case .tunnel(let name, let remote): "tunnel \(name) to \(remote)"
    case .device(let name): "port \(name)"
    }
  }

  fileprivate static func least(_ left: SizeBound?, _ right: SizeBound?) -> SizeBound? {
    guard let left else { return right }
    guard let right else { return left }
    // Of equals always the same one, whatever the order; and a tunnel, which was there before a
    // device had to fit it.
    return right.rank < left.rank ? right : left
  }

  private var rank: (Int, Int, String) {
    switch culprit {
    case .tunnel: (mtu, 0, owner)
    case .device: (mtu, 1, owner)
    }
  }
}

extension DesiredState {
  /// What limits the packets of one port.
  struct Limits: Equatable {
    /// The narrowest tunnel of its segments, less the tag that the port's frames get in it; `nil`
    /// without tunnels.
    var tunnel: SizeBound?
    /// The narrowest device of its segments that somebody else has made.
    var device: SizeBound?

    /// What a port that has no MTU of its own is given, and what limits it to that; `nil` where
    /// nothing does.
    var mtu: (mtu: Int, bound: SizeBound?) {
      let unlimited = tunnel == nil ? MTU.defaultMTU : MTU.largestDefaultMTU
      guard let bound = SizeBound.least(tunnel, device), bound.mtu <= unlimited else {
        return (unlimited, nil)
      }
      return (max(bound.mtu, Configuration.mtuRange.lowerBound), bound)
    }

    /// The `IFLA_GSO_MAX_SIZE` of a device with an MTU.
    func gsoMaxSize(mtu: Int) -> Int {
      tunnel == nil ? MTU.wholeGSOMaxSize : MTU.gsoMaxSize(mtu: mtu)
    }
  }

  /// The limits of every port that is a device.
  ///
  /// - Parameters:
  ///   - innerMTU: The largest inner packet on the way to a VTEP; `nil` while it is not known.
  ///   - deviceMTU: The MTU that an existing device's owner gave it; `nil` while it is not there.
  /// - Returns: By the names of the ports.
  func limits(
    innerMTU: (Remote) -> Int?, deviceMTU: (String) -> Int?
  ) -> [String: Limits] {
    var bridges: [String: BridgeBounds] = [:]
    for (name, tunnel) in tunnels {
      if tunnel.remotes.isEmpty, let local = tunnel.endpoint.local {
        // Those that an agent is going to tell.
        let mtu = MTU.innerMTU(pathMTU: MTU.defaultMTU, isIPv6: local.isIPv6)
        bridges[tunnel.bridge, default: BridgeBounds()].add(
          SizeBound(mtu: mtu, culprit: .tunnel(name, remote: local)), of: tunnel)
      }
      for remote in tunnel.remotes {
        // Until the way is known it is taken for an Ethernet, so that devices need not shrink once
        // it is.
        let mtu =
          innerMTU(remote)
          ?? MTU.innerMTU(pathMTU: MTU.defaultMTU, isIPv6: remote.address.isIPv6)
        bridges[tunnel.bridge, default: BridgeBounds()].add(
          SizeBound(mtu: mtu, culprit: .tunnel(name, remote: remote.address)), of: tunnel)
      }
    }
    for (name, device) in devices {
      guard case .existing(let place) = device.place, let mtu = deviceMTU(place) else { continue }
      bridges[device.bridge, default: BridgeBounds()].devices.tighten(
        to: SizeBound(mtu: mtu, culprit: .device(name)), in: device.vlans.vlans)
    }
    return devices.mapValues { bridges[$0.bridge]?.limits(of: $0) ?? Limits() }
  }
}

/// The bounds of all segments of a bridge.
private struct BridgeBounds {
  var tunnels = VLANBounds()
  /// The same for frames that belong to a VLAN without showing it, and show it in some of the
  /// tunnels.
  var taggedTunnels = VLANBounds()
  var devices = VLANBounds()

  /// Takes a tunnel in.
  mutating func add(_ bound: SizeBound, of tunnel: DesiredState.Tunnel) {
    tunnels.tighten(to: bound, in: tunnel.vlans.vlans)
    var tagged = bound
    tagged.mtu -= VLANHeader.byteCount
    switch tunnel.vlans {
    case .access, .dot1qTunnel: taggedTunnels.tighten(to: bound, in: tunnel.vlans.vlans)
    case .trunk, .nativeTagged: taggedTunnels.tighten(to: tagged, in: tunnel.vlans.vlans)
    case .nativeUntagged(let own, _):
      // Those of its own VLAN have no tag there either.
      taggedTunnels.tighten(to: bound, in: [own])
      let others = tunnel.vlans.vlans ?? Set((1...4094).compactMap { VLANID(rawValue: $0) })
      taggedTunnels.tighten(to: tagged, in: others.subtracting([own]))
    }
  }

  func limits(of device: DesiredState.Device) -> DesiredState.Limits {
    let vlans = device.vlans.vlans
    var limits = DesiredState.Limits(
      tunnel: tunnels.least(in: vlans), device: devices.least(in: vlans))
    if let own = device.vlans.ownVLAN, own != .untagged {
      limits.tunnel = .least(limits.tunnel, taggedTunnels.least(in: [own]))
    }
    return limits
  }
}

/// The least bound of each VLAN.
private struct VLANBounds {
  private var ofAll: SizeBound?
  private var byVLAN: [VLANID: SizeBound] = [:]

  /// Takes in what holds for some VLANs, or for all where `nil`.
  mutating func tighten(to bound: SizeBound, in vlans: Set<VLANID>?) {
    guard let vlans else {
      ofAll = .least(ofAll, bound)
      return
    }
    for vlan in vlans { byVLAN[vlan] = .least(byVLAN[vlan], bound) }
  }

  /// The least of some VLANs, or of all where `nil`.
  func least(in vlans: Set<VLANID>?) -> SizeBound? {
    guard let vlans else { return byVLAN.values.reduce(ofAll) { .least($0, $1) } }
    return vlans.isEmpty ? nil : vlans.reduce(ofAll) { .least($0, byVLAN[$1]) }
  }
}

extension VLANMembership {
  /// The VLAN of untagged frames that come in; `nil` for a trunk without one.
  fileprivate var ownVLAN: VLANID? {
    switch self {
    case .access(let own), .nativeTagged(let own, _), .nativeUntagged(let own, _),
      .dot1qTunnel(let own, _, _):
      own
    case .trunk: nil
    }
  }
}
