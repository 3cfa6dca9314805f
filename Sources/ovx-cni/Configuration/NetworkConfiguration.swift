internal import OVXControl
internal import OVXDatapath

/// What a network's configuration says, as the runtime hands it over on standard input.
struct NetworkConfiguration: Equatable {
  /// The whole, which is passed on to an IPAM plugin.
  var json: JSON
  /// `cniVersion`, which results are written in.
  var version: SpecificationVersion
  /// `name`: what the runtime calls the network.
  var name: String
  var place: Place
  /// `mtu`, in bytes of IP packet; `nil` for what fits.
  var mtu: Int?
  /// `kind`: what the container's interface is, "tap" or "veth".
  ///
  /// A veth where nothing is said: it is made in half the time, as a TAP has to be moved into the
  /// container, and can be on the fast path.
  var kind = "veth"
  /// The daemon's run directory.
  var runDirectory: String
  /// `ipam.type`: the plugin that hands out addresses; `nil` for none.
  var addressPlugin: String?
  /// `dns`, which has precedence over what an IPAM plugin says.
  var dns: JSON?
  /// `prevResult`: of the plugin before in the chain, or with `CHECK` and `DEL` what `ADD` has
  /// given.
  var previous: JSON?
  /// The Ethernet address asked for, by `runtimeConfig`.
  var mac: String?
  /// Addresses asked for, by `runtimeConfig`.
  var addresses: [String]
  /// Ports of the host that are to lead to the container, by `runtimeConfig`.
  var published: [PublishedPort]

  /// Where containers are attached.
  enum Place: Equatable {
    /// A network that the daemon knows by name, which says everything else.
    case network(String)
    case bridge(String, Membership)
  }

  /// Which of a bridge's VLANs a container is in.
  enum Membership: Equatable {
    /// Nothing is said: the bridge keeps none apart.
    case unsaid
    /// That of the tunnel with this VNI.
    case vni(VNI)
    case tag(VLANID)
    /// Ranges of VLANs, which the container has as tags.
    case trunk([ClosedRange<Int>])
  }
}

extension NetworkConfiguration {
  /// Reads a configuration.
  ///
  /// Members that ovx-cni does not know are other programs'. Those by which other plugins would set
  /// tenants apart or make the host a router are refused, as who writes them relies on them.
  ///
  /// - Parameters:
  ///   - json: What the runtime has sent.
  ///   - runDirectory: The daemon's run directory where the configuration names none; `nil` for the
  ///     usual one.
  /// - Throws: Code 1, 2 or 7, naming the member and what is right.
  init(_ json: JSON, runDirectory: String?) throws(PluginError) {
    guard case .object = json else {
      throw PluginError(
        .undecodable, "the network configuration is \(json.kind), and has to be an object")
    }
    self.json = json
    version = try Self.version(of: json)
    let reader = MemberReader(json)
    guard let name = try reader.text("name") else {
      throw PluginError(
        .invalidConfiguration, "the network configuration has no \"name\"; give the network one")
    }
    if let fault = Call.fault(ofIdentifier: name) {
      throw PluginError(.invalidConfiguration, "the network's name \"\(name)\" \(fault)")
    }
    self.name = name
    try reader.refuseForeignMembers()
    place = try reader.place()
    mtu = try reader.integer("mtu", in: Configuration.mtuRange)
    kind = try reader.kind() ?? kind
    self.runDirectory =
      try reader.path("rundir") ?? runDirectory ?? ControlSocket.runDirectoryOfEnvironment
    addressPlugin = try reader.addressPlugin()
    dns = try reader.object("dns")
    previous = try reader.object("prevResult")
    let runtime = MemberReader(try reader.object("runtimeConfig") ?? .object([:]), "runtimeConfig.")
    mac = try runtime.text("mac")
    addresses = try runtime.texts("ips") ?? []
    published = try runtime.published()
    if case .bridge = place, let port = published.first {
      throw PluginError(
        .invalidConfiguration,
        "\"runtimeConfig.portMappings\" asks for \(port), and a gateway publishes ports, which a \"bridge\" has not; name a "
          + "\"network\" instead, or leave it to the plugin portmap behind this one")
    }
  }

  /// Reads the version of a configuration, be the rest as it may.
  ///
  /// - Parameter json: The configuration.
  /// - Returns: Its version.
  /// - Throws: Code 1 for a version that is not spoken.
  static func version(of json: JSON) throws(PluginError) -> SpecificationVersion {
    // Without one, a configuration is of version 0.1.0 (specification of that time).
    let text = json["cniVersion"].map { $0.textValue ?? "" } ?? "0.1.0"
    guard let version = SpecificationVersion(text: text) else {
      let known = SpecificationVersion.allCases.map(\.rawValue).joined(separator: ", ")
      throw PluginError(
        .incompatibleVersion,
        json["cniVersion"] == nil
          ? "the network configuration has no \"cniVersion\"; ovx-cni speaks \(known)"
          : "the cniVersion \"\(text)\" of the network configuration is not one of those that ovx-cni speaks: \(known)"
      )
    }
    return version
  }

  /// What it is called in a sentence.
  var description: String { "network \(name)" }
}
