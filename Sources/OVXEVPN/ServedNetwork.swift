internal import OVXControl
internal import OVXDatapath

/// A network that EVPN serves, and all that is known of it.
struct ServedNetwork {
  /// What an operator has set.
  struct Settings: Equatable {
    var name: String
    var vni: VNI
    /// The route target that is given; of its VNI where there is none.
    var target: RouteTarget?
  }

  var settings: Settings
  var distinguisher: RouteDistinguisher
  /// What its routes are told with.
  var target: RouteTarget
  var remote = RemoteStations()

  /// Stations that this host tells of, and with which sequence numbers.
  var owned: [MACAddress: UInt32] = [:]
  /// Stations that another host has taken over while they were known here, too, and when that was,
  /// in milliseconds.
  ///
  /// What is known here counts again when they are heard.
  var yielded: [MACAddress: Int64] = [:]
  var moves: [MACAddress: MoveHistory] = [:]
  var frozen: [MACAddress: FrozenPlace] = [:]
  /// Stations that are here for certain, or there for certain, and which another host tells of as
  /// well.
  var duplicates: [MACAddress: IPAddress] = [:]

  init(
    _ settings: Settings, distinguisher: RouteDistinguisher, target: RouteTarget
  ) {
    self.settings = settings
    self.distinguisher = distinguisher
    self.target = target
  }

  /// Whether a route is for the network.
  func imports(_ route: Route) -> Bool {
    route.targets.contains {
      $0 == target || (settings.target == nil && $0.isAutomatic(for: settings.vni))
    }
  }
}

extension SwitchTables {
  /// Whether the networks are EVPN's, and this host's VTEP.
  var localVTEP: IPAddress? {
    guard host["control_plane"]?.text == "evpn" else { return nil }
    return host["local_ip"]?.text.flatMap(IPAddress.init)
  }

  /// Seconds for which entries stay when nobody tells of them any more; 0 for ever.
  var hold: Int { hostRecord.agentHold }

  /// Routes that a network may have from other hosts.
  var routeLimit: Int { hostRecord.agentRouteLimit }

  private var hostRecord: Configuration.SwitchRecord {
    Configuration.SwitchRecord(otherConfig: host["other_config"]?.entries ?? [:])
  }

  /// The networks that are to be served, by their VNIs, and what is wrong with others.
  func served() -> (networks: [VNI: ServedNetwork.Settings], faults: [String]) {
    var served: [VNI: ServedNetwork.Settings] = [:]
    var faults: [String] = []
    guard localVTEP != nil else { return ([:], []) }
    for (name, columns) in networks.sorted(by: { $0.key < $1.key }) {
      guard columns["remotes"]?.isEmpty != false,
        let number = columns["vni"]?.text.flatMap({ UInt32($0) }), let vni = VNI(rawValue: number)
      else { continue }
      guard served.count < Agent.networkLimit else {
        faults.append("network \(name) is not served: \(Agent.networkLimit) others are")
        continue
      }
      if let other = served[vni] {
        faults.append("network \(name) is not served: it has the VNI of \(other.name)")
        continue
      }
      var settings = ServedNetwork.Settings(name: name, vni: vni, target: nil)
      let key = Configuration.Network.routeTargetKey
      if let text = columns["other_config"]?.entries[key.name] {
        guard let target = key.value(text) ?? nil else {
          faults.append(
            "network \(name) is not served: its \(key.name) \"\(text)\" is not one, such as 65000:100"
          )
          continue
        }
        settings.target = target
      }
      served[vni] = settings
    }
    return (served, faults)
  }
}
