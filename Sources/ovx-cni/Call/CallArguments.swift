/// What `CNI_ARGS` asks for: `KEY=VALUE` pairs, separated by semicolons.
struct CallArguments: Equatable {
  /// The Ethernet address, as it was written.
  var mac: String?
  /// IP addresses, as they were written; a comma separates several.
  var addresses: [String] = []

  init() {}

  /// Reads the variable.
  ///
  /// Keys are taken in any letter case. Those of container engines, such as `K8S_POD_NAME`, mean
  /// nothing here.
  ///
  /// - Parameter text: Its value; empty for none.
  /// - Throws: Code 4, naming what is no pair, or an unknown key unless `IgnoreUnknown` is set.
  init(parsing text: String) throws(PluginError) {
    var unknown: [String] = []
    var ignoresUnknown = false
    for pair in text.split(separator: ";", omittingEmptySubsequences: true) {
      let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard parts.count == 2, !parts[0].isEmpty else {
        throw PluginError(
          .badEnvironment, "CNI_ARGS has \"\(pair)\", which is not of the form KEY=VALUE")
      }
      let value = String(parts[1])
      switch parts[0].lowercased() {
      case "ignoreunknown": ignoresUnknown = ["1", "true", "t"].contains(value.lowercased())
      case "mac": mac = value.isEmpty ? nil : value
      case "ip": addresses = value.split(separator: ",").map(String.init)
      case let key where key.hasPrefix("k8s_pod_"): break
      default: unknown.append(String(parts[0]))
      }
    }
    guard unknown.isEmpty || ignoresUnknown else {
      throw PluginError(
        .badEnvironment,
        "CNI_ARGS has \(unknown.joined(separator: ", ")), and ovx-cni knows MAC and IP; "
          + "IgnoreUnknown=1 lets the others pass")
    }
  }
}
