package import OVXDatapath

// All keys of `other_config` that mean something, each with what it stands for.

extension Configuration.SwitchRecord: OtherConfigRecord {
  package static let otherConfigKeys: [any OtherConfigDeclaration<Configuration.SwitchRecord>] = [
    transitKey, uplinksKey, agentHoldKey, agentRouteLimitKey, fastPathKey,
  ]

  private static let transitKey = OtherConfigKey<Configuration.SwitchRecord, IPPrefix>(
    name: "gateway-transit", values: "an IPv4 network with a prefix of 8 to 30 bits",
    usual: { _ in
      IPPrefix(numbered: UInt128(100) << 24 | UInt128(64) << 16, length: 10, isIPv6: false)
    },
    read: { text throws(OtherConfigFault) in
      guard let prefix = IPPrefix(text), !prefix.base.isIPv6, (8...30).contains(prefix.length),
        !prefix.base.isMulticast
      else {
        throw .value(
          "is not an IPv4 network with a prefix of 8 to 30 bits, such as 100.64.0.0/10")
      }
      return prefix
    },
    remedy: { _, removal in "; \(removal) sets it back to that" })

  /// Where gateways' ways to the host have their addresses from: `other_config:gateway-transit`, an
  /// IPv4 prefix.
  ///
  /// Where nothing is said it is the block for what is between providers and customers (RFC 6598).
  package var gatewayTransit: IPPrefix { value(of: Self.transitKey) }

  private static let uplinksKey = OtherConfigKey<Configuration.SwitchRecord, [String]?>(
    name: "gateway-uplinks", values: "devices, separated by commas", usual: { _ in nil },
    read: { text throws(OtherConfigFault) in
      let devices = addressList(text)
      for device in devices {
        do throws(ControlError) { try checkDeviceName(device, of: "gateway-uplinks device") } catch
        {
          throw .other(error)
        }
        // nft(8) has no way to write one.
        guard !device.contains("\"") else {
          throw .key(" names a device with a quotation mark, which packet filters cannot name")
        }
      }
      guard !devices.isEmpty else { throw .key(" names no device") }
      return devices
    },
    remedy: { _, removal in "; \(removal) leaves it to the host's default routes" })

  /// The devices by which tenants get outside: `other_config:gateway-uplinks`, separated by commas;
  /// `nil` for those of the host's default routes.
  package var gatewayUplinks: [String]? { value(of: Self.uplinksKey) }

  private static let agentHoldKey = OtherConfigKey<Configuration.SwitchRecord, Int>(
    name: "evpn-hold", values: "`inf` or 1 to \(AgentUpdate.holdRange.upperBound) seconds",
    usual: { _ in 120 },
    read: { text throws(OtherConfigFault) in
      if text == "inf" { return 0 }
      guard let seconds = Int(text), AgentUpdate.holdRange.contains(seconds), seconds > 0 else {
        throw .value(
          "is neither \"inf\" nor a number of seconds from 1 to \(AgentUpdate.holdRange.upperBound)"
        )
      }
      return seconds
    },
    remedy: { usual, removal in "; \(removal) sets it back to \(usual)" })

  /// Seconds for which entries of an agent stay where it tells nothing more, 0 for ever:
  /// `other_config:evpn-hold`.
  package var agentHold: Int { value(of: Self.agentHoldKey) }

  private static let agentRouteLimitKey = OtherConfigKey<Configuration.SwitchRecord, Int>(
    name: "evpn-limit", values: "1 to 16777216 routes", usual: { _ in 131_072 },
    read: { text throws(OtherConfigFault) in
      guard let count = Int(text), (1...16_777_216).contains(count) else {
        throw .value("is not a number of routes from 1 to 16777216")
      }
      return count
    },
    remedy: { usual, removal in
      "; \(removal) sets it back to \(usual)"
    })

  /// Routes that each network may have of other hosts: `other_config:evpn-limit`.
  package var agentRouteLimit: Int { value(of: Self.agentRouteLimitKey) }

  private static let fastPathKey = OtherConfigKey<Configuration.SwitchRecord, FastPathUse>.choice(
    "fast-path", ["auto": .auto, "on": .on, "off": .off], usual: .off,
    fault: "is not one of auto, on and off",
    remedy: { _, removal in "; \(removal) sets it back to off" })

  /// Whether programs in the kernel are to repeat the switch's decisions for TCP where they can:
  /// `other_config:fast-path`.
  package var fastPath: FastPathUse { value(of: Self.fastPathKey) }
}

extension Configuration.Bridge: OtherConfigRecord {
  package static let otherConfigKeys: [any OtherConfigDeclaration<Configuration.Bridge>] = [
    agingTimeKey, addressLimitKey, suppressionKey, joinedVNIsKey, hardwareAddressKey,
  ]

  private static let agingTimeKey = OtherConfigKey<Configuration.Bridge, Int>.clamped(
    "mac-aging-time", 15...3600, "seconds", usual: 300)

  /// Seconds after which a learned address is forgotten, 15...3600: `other_config:mac-aging-time`.
  ///
  /// A value outside of the range counts as the nearest one inside, as in Open vSwitch.
  package var agingTime: UInt32 { UInt32(value(of: Self.agingTimeKey)) }

  private static let addressLimitKey = OtherConfigKey<Configuration.Bridge, Int>.clamped(
    "mac-table-size", 10...1_000_000, "addresses", usual: 8192)

  /// Addresses that the bridge knows at most, 10...1,000,000: `other_config:mac-table-size`.
  ///
  /// A value outside of the range counts as the nearest one inside, as in Open vSwitch.
  package var addressLimit: Int { value(of: Self.addressLimitKey) }

  private static let suppressionKey = OtherConfigKey<Configuration.Bridge, Bool>.flag(
    "neighbor-suppression", usual: true, fault: "is not one of the allowed values (true, false)",
    remedy: { _, _ in "; false floods every ARP request and neighbor solicitation" })

  /// Whether the switch answers questions for neighbors that it knows, in segments that have a
  /// tunnel: `other_config:neighbor-suppression`, true where it is not set.
  package var suppressesNeighborQuestions: Bool { value(of: Self.suppressionKey) }

  private static let joinedVNIsKey = OtherConfigKey<Configuration.Bridge, Set<VNI>>(
    name: "joined-vnis", values: "two or more VNIs, separated by commas", usual: { _ in [] },
    read: { text throws(OtherConfigFault) in
      let parts = addressList(text)
      let vnis = parts.compactMap { UInt32($0).flatMap(VNI.init(rawValue:)) }
      guard vnis.count == parts.count, Set(vnis).count > 1 else {
        throw .value(
          "is not a list of two or more VNIs, 0 to \(VNI.max), separated by commas, whose tunnels are to share VLANs"
        )
      }
      return Set(vnis)
    },
    remedy: { _, removal in "; \(removal) keeps all apart" })

  /// The VNIs whose tunnels may share VLANs of the bridge: `other_config:joined-vnis`, separated by
  /// commas.
  ///
  /// Empty where there is no such list, or none that makes sense.
  package var joinedVNIs: Set<VNI> { value(of: Self.joinedVNIsKey) }

  private static let hardwareAddressKey = OtherConfigKey<Configuration.Bridge, MACAddress?>(
    name: "hwaddr", values: "an Ethernet address of one station", usual: { _ in nil },
    read: { text throws(OtherConfigFault) in
      do throws(ControlError) { _ = try AtomShape.ethernetAddress.atom(text) } catch {
        throw .key(": \(error.message)")
      }
      return MACAddress(text)
    })

  /// The Ethernet address of the bridge's internal port, unless its interface has one of its own:
  /// `other_config:hwaddr`.
  package var hardwareAddress: MACAddress? { value(of: Self.hardwareAddressKey) }
}

extension Configuration.Port: OtherConfigRecord {
  package static let otherConfigKeys: [any OtherConfigDeclaration<Configuration.Port>] = [
    customerTagKey, priorityTagsKey, stormControlKey,
  ]

  private static let customerTagKey = OtherConfigKey<Configuration.Port, UInt16>.choice(
    "qinq-ethtype", ["802.1ad": 0x88A8, "802.1q": 0x8100], usual: 0x88A8)

  /// The Ethernet type of the tag in front of a customer's, of a `dot1q-tunnel` port:
  /// `other_config:qinq-ethtype`.
  var serviceTagType: UInt16 { value(of: Self.customerTagKey) }

  private static let priorityTagsKey = OtherConfigKey<Configuration.Port, PriorityTags>.choice(
    "priority-tags",
    [
      "never": .never, "if-nonzero": .ifNonzero, "always": .always, "true": .ifNonzero,
      "false": .never,
    ], named: 3, usual: .never)

  /// Whether frames without a VLAN show their priority: `other_config:priority-tags`.
  package var priorityTags: PriorityTags { value(of: Self.priorityTagsKey) }

  private static let stormControlKey = OtherConfigKey<Configuration.Port, UInt32>(
    name: "storm-control", values: "`off` or 1 to 1000000000 copies a second",
    usual: { port in
      (port.interface.type == .vxlan ? PortLimits.tunnel : PortLimits.device).floodedCopies
    },
    read: { text throws(OtherConfigFault) in
      if text == "off" { return .max }
      guard let count = UInt32(text), (1...1_000_000_000).contains(count) else {
        throw .value("is neither off nor a number from 1 to 1000000000")
      }
      return count
    },
    remedy: { usual, removal in
      "; it counts the copies of flooded frames that the port may cause in a second, and \(removal) sets it back to "
        + "\(usual)"
    })

  /// What may come in by the port and cost others: `other_config:storm-control`, copies of flooded
  /// frames a second or `off`, and as is usual for a device or a tunnel where nothing is said.
  package var limits: PortLimits {
    var limits = interface.type == .vxlan ? PortLimits.tunnel : PortLimits.device
    limits.floodedCopies = value(of: Self.stormControlKey)
    return limits
  }
}

extension Configuration.Interface: OtherConfigRecord {
  package static let otherConfigKeys: [any OtherConfigDeclaration<Configuration.Interface>] = [
    advertisementsKey
  ]

  private static let advertisementsKey = OtherConfigKey<Configuration.Interface, Bool>.flag(
    "accept-ra", usual: false, fault: "is not one of the allowed values (true, false)")

  /// Whether the host takes addresses and routes from IPv6 routers that it hears by the device:
  /// `other_config:accept-ra`, for an internal interface.
  package var acceptsRouterAdvertisements: Bool { value(of: Self.advertisementsKey) }
}

extension Configuration.Network: OtherConfigRecord {
  package static let otherConfigKeys: [any OtherConfigDeclaration<Configuration.Network>] = [
    floodKey, routeTargetKey,
  ]

  private static let floodKey = OtherConfigKey<Configuration.Network, Bool>.flag(
    "evpn-flood-unknown", usual: false, fault: "is not one of true and false")

  /// Whether frames for stations that the control plane has not told go to all hosts of the
  /// network: `other_config:evpn-flood-unknown`.
  package var floodsUnknown: Bool { value(of: Self.floodKey) }

  package static let routeTargetKey = OtherConfigKey<Configuration.Network, RouteTarget?>(
    name: "route-target", values: "`AS:NUMBER`, of which one has at most 16 bits",
    usual: { _ in nil },
    read: { text throws(OtherConfigFault) in
      guard let target = RouteTarget(text), !target.isOfAddress else {
        throw .value(
          "is not AS:NUMBER, such as 65000:100, of which one has at most 16 bits")
      }
      return target
    })

  /// The route target of its routes, both ways, where it is not to follow from AS and VNI:
  /// `other_config:route-target`.
  ///
  /// `AS:NUMBER`; one of an IPv4 address does not count.
  package var routeTarget: RouteTarget? { value(of: Self.routeTargetKey) }
}
