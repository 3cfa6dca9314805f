internal import OVXControl
internal import OVXDatapath

/// What an IPAM plugin has handed out, or what a network has.
struct AddressResult: Equatable {
  var addresses: [Assigned] = []
  var routes: [Route] = []
  /// As it stands in the plugin's answer.
  var dns: JSON?

  /// An address with the length of its network's prefix.
  struct Assigned: Equatable {
    var address: InterfaceAddress
    var gateway: IPAddress?
  }

  /// A route that the container is to have.
  struct Route: Equatable {
    /// Where it leads; bits behind the prefix mean nothing.
    var destination: InterfaceAddress
    /// `nil` for that of the first address of the family.
    var gateway: IPAddress?
    var mtu: Int?
    var advertisedMSS: Int?
    var priority: Int?
    var table: Int?
    var scope: Int?

    /// Whether it leads everywhere.
    var isDefault: Bool { destination.prefixLength == 0 }
    /// Whether it is nothing but a destination and a gateway.
    var isPlain: Bool {
      mtu == nil && advertisedMSS == nil && priority == nil && table == nil && scope == nil
    }
  }
}

extension AddressResult {
  /// Reads an IPAM plugin's answer.
  ///
  /// - Parameters:
  ///   - json: An object with `ips`, `routes` and `dns`, of any version from 0.3.0 on.
  ///   - whose: Whose answer it is, for the sentence.
  /// - Throws: Code 6 where a member is not what it has to be.
  init(_ json: JSON, of whose: String) throws(PluginError) {
    func wrong(_ what: String) -> PluginError {
      PluginError(.undecodable, "the result of \(whose) has \(what)")
    }
    guard case .object = json else {
      throw PluginError(.undecodable, "the result of \(whose) is \(json.kind), and no object")
    }
    func elements(_ name: String) throws(PluginError) -> [JSON] {
      guard let member = json[name] else { return [] }
      guard let elements = member.arrayValue else { throw wrong("\"\(name)\", which is no array") }
      return elements
    }
    func gateway(_ element: JSON, _ name: String) throws(PluginError) -> IPAddress? {
      guard let text = element[name]?.textValue, !text.isEmpty else { return nil }
      guard let address = IPAddress(text) else {
        throw wrong("the gateway \"\(text)\", which is no IP address")
      }
      return address
    }
    for element in try elements("ips") {
      guard let text = element["address"]?.textValue, let address = InterfaceAddress(text) else {
        let shown = element["address"]?.textValue.map { " \"\($0)\"" } ?? ""
        throw wrong("an address\(shown) that is not of the form 10.0.0.5/24")
      }
      addresses.append(Assigned(address: address, gateway: try gateway(element, "gateway")))
    }
    for element in try elements("routes") {
      guard let text = element["dst"]?.textValue, let destination = InterfaceAddress(text) else {
        let shown = element["dst"]?.textValue.map { " \"\($0)\"" } ?? ""
        throw wrong("a route to\(shown) that is not of the form 10.0.0.0/8")
      }
      func number(_ name: String) throws(PluginError) -> Int? {
        guard let member = element[name] else { return nil }
        guard let number = member.integerValue, (0...Int(UInt32.max)).contains(number) else {
          throw wrong("a route to \(text) whose \"\(name)\" is no number from 0 to \(UInt32.max)")
        }
        return number
      }
      routes.append(
        Route(
          destination: destination, gateway: try gateway(element, "gw"), mtu: try number("mtu"),
          advertisedMSS: try number("advmss"), priority: try number("priority"),
          table: try number("table"), scope: try number("scope")))
    }
    dns = json["dns"].flatMap { $0.objectValue?.isEmpty == false ? $0 : nil }
  }

  /// The gateway of the first address of a family that has one.
  ///
  /// - Parameter isIPv6: The family.
  /// - Returns: The gateway.
  func gateway(isIPv6: Bool) -> IPAddress? {
    addresses.lazy.filter { $0.address.address.isIPv6 == isIPv6 }.compactMap(\.gateway).first
  }

  /// Its routes, each with the gateway that it goes by; those without one lead to neighbors.
  var resolvedRoutes: [Route] {
    routes.map { route in
      var route = route
      // A route of the link's own scope (`RT_SCOPE_LINK`) has no gateway.
      if route.gateway == nil, route.scope != 253 {
        route.gateway = gateway(isIPv6: route.destination.address.isIPv6)
      }
      return route
    }
  }
}
