private import OVXControl
internal import OVXDatapath

/// What `prevResult` says of the container's interface, which `CHECK` compares with what there is.
struct ExpectedInterface: Equatable {
  var mac: MACAddress?
  var mtu: Int?
  var addresses: AddressResult

  /// Finds an interface in a result.
  ///
  /// - Parameters:
  ///   - name: Its name inside of the container.
  ///   - json: `prevResult`.
  /// - Throws: Code 7 where it is not among the interfaces of a container, 6 where a member is not
  ///   what it has to be.
  init(_ name: String, in json: JSON) throws(PluginError) {
    let interfaces = json["interfaces"]?.arrayValue ?? []
    let place = interfaces.firstIndex {
      $0["name"]?.textValue == name && $0["sandbox"]?.textValue?.isEmpty == false
    }
    guard let place else {
      throw PluginError(
        .invalidConfiguration,
        "\"prevResult\" of the network configuration has no interface \(name) of a container")
    }
    mac = interfaces[place]["mac"]?.textValue.flatMap { MACAddress($0) }
    mtu = interfaces[place]["mtu"]?.integerValue.flatMap { $0 > 0 ? $0 : nil }
    var result = json.objectValue ?? [:]
    let ips = json["ips"]?.arrayValue ?? []
    result["ips"] = .array(ips.filter { $0["interface"]?.integerValue == place })
    addresses = try AddressResult(.object(result), of: "ADD (\"prevResult\")")
    // Another plugin's interface may have put its routes there as well.
    if ips.contains(where: { $0["interface"]?.integerValue != place }) { addresses.routes = [] }
  }
}
