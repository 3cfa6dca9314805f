private import OVXControl
internal import OVXDatapath

/// What `ADD` gives: the interface, its addresses and routes, behind what plugins before in the
/// chain have given.
struct AddResult: Equatable {
  var interface: String
  /// The path of the container's network namespace.
  var sandbox: String
  var mac: MACAddress?
  /// In bytes of IP packet.
  var mtu: Int?
  var addresses: AddressResult

  /// Writes the result (specification, section 5, "ADD Success").
  ///
  /// - Parameters:
  ///   - version: The version of the specification, which decides about members.
  ///   - previous: The result of the plugin before in the chain, whose members stay as they are.
  /// - Returns: An object.
  func json(_ version: SpecificationVersion, behind previous: JSON? = nil) -> JSON {
    var result = previous?.objectValue ?? [:]
    result["cniVersion"] = .text(version.rawValue)
    let interfaces = previous?["interfaces"]?.arrayValue ?? []
    result["interfaces"] = .array(interfaces + [interfaceJSON(version)])
    let ips = addresses.addresses.map { address in
      var members: [String: JSON] = [
        "address": .text(address.address.description),
        "interface": .integer(interfaces.count),
      ]
      if version < .v100 { members["version"] = .text(address.address.address.isIPv6 ? "6" : "4") }
      if let gateway = address.gateway { members["gateway"] = .text(gateway.description) }
      return JSON.object(members)
    }
    append(ips, to: "ips", of: &result)
    append(addresses.routes.map { routeJSON($0, version) }, to: "routes", of: &result)
    if let dns = addresses.dns {
      result["dns"] = dns
    } else if result["dns"] == nil {
      result["dns"] = .object([:])
    }
    return .object(result)
  }

  private func append(_ elements: [JSON], to name: String, of result: inout [String: JSON]) {
    let former = result[name]?.arrayValue ?? []
    // An absent list and an empty one are the same; runtimes print the first better.
    if former.isEmpty, elements.isEmpty, name == "routes" { return }
    result[name] = .array(former + elements)
  }

  private func interfaceJSON(_ version: SpecificationVersion) -> JSON {
    var members: [String: JSON] = ["name": .text(interface), "sandbox": .text(sandbox)]
    if let mac { members["mac"] = .text(mac.description) }
    if version >= .v110, let mtu { members["mtu"] = .integer(mtu) }
    return .object(members)
  }

  private func routeJSON(_ route: AddressResult.Route, _ version: SpecificationVersion) -> JSON {
    var members: [String: JSON] = ["dst": .text(route.destination.description)]
    if let gateway = route.gateway { members["gw"] = .text(gateway.description) }
    if version >= .v110 {
      let numbers = [
        ("mtu", route.mtu), ("advmss", route.advertisedMSS), ("priority", route.priority),
        ("table", route.table), ("scope", route.scope),
      ]
      for (name, number) in numbers { if let number { members[name] = .integer(number) } }
    }
    return .object(members)
  }
}
