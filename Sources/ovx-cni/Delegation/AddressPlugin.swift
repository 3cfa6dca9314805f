private import Glibc

/// The plugin that hands out addresses (specification, section 4, "Delegation").
///
/// It gets the network's configuration as it is. One that does not speak that version of the
/// specification is asked which it speaks, and called again in the latest of those: Debian's
/// plugins are older than version 1.1.
struct AddressPlugin {
  /// `ipam.type`.
  let name: String
  private let path: String
  private let configuration: JSON
  private let version: SpecificationVersion
  private let environment: [String: String]

  /// Finds the plugin of a network; `nil` where it has none.
  ///
  /// - Parameters:
  ///   - configuration: The network's.
  ///   - searchPath: `CNI_PATH`.
  ///   - environment: The variables of this call, which the plugin gets as well.
  /// - Throws: Code 4 where there is no `CNI_PATH`, 7 where the plugin is nowhere in it.
  init?(
    of configuration: NetworkConfiguration, in searchPath: [String],
    environment: [String: String]
  ) throws(PluginError) {
    guard let name = configuration.addressPlugin else { return nil }
    guard !searchPath.isEmpty else {
      throw PluginError(
        .badEnvironment, "CNI_PATH is not set, which is where the IPAM plugin \(name) is looked for"
      )
    }
    let paths = searchPath.map { "\($0)/\(name)" }
    let path = paths.first { (path: String) in unsafe access(path, X_OK) == 0 }
    guard let path else {
      throw PluginError(
        .invalidConfiguration,
        "the IPAM plugin \(name) is in none of the directories of CNI_PATH (\(searchPath.joined(separator: ":"))); "
          + "install it there, or leave out \"ipam\"")
    }
    self.name = name
    self.path = path
    self.configuration = configuration.json
    version = configuration.version
    self.environment = environment
  }

  /// An attachment that the plugin is called for instead of the one of this call.
  struct Attachment {
    var containerID: String
    var interface: String
  }

  /// Asks for addresses.
  ///
  /// Where that fails it is undone, as the specification wants it, and asked for once more: a call
  /// that was killed may have left an address behind for this very interface, which plugins do not
  /// give out twice.
  ///
  /// - Returns: At least one address.
  /// - Throws: The plugin's error, under its number.
  func add() throws(PluginError) -> AddressResult {
    do throws(PluginError) {
      return try addOnce()
    } catch {
      try undo(error)
      // Who does not answer is not waited for twice.
      guard error.code != PluginError.Code.inputOutput.rawValue else { throw error }
    }
    do throws(PluginError) {
      return try addOnce()
    } catch {
      try undo(error)
      throw error
    }
  }

  /// Gives back what a call that failed may have taken.
  ///
  /// - Throws: The call's error, where that fails as well.
  private func undo(_ error: PluginError) throws(PluginError) {
    do throws(PluginError) { try delete() } catch let other { throw error.leaving([other]) }
  }

  private func addOnce() throws(PluginError) -> AddressResult {
    let json = try JSON(parsing: try call(.add), as: "the answer of the IPAM plugin \(name)")
    let result = try AddressResult(json, of: "the IPAM plugin \(name)")
    guard !result.addresses.isEmpty else {
      throw PluginError(.refused, "the IPAM plugin \(name) has given no address")
    }
    return result
  }

  /// Gives addresses back: those of this call, or of another attachment.
  func delete(_ attachment: Attachment? = nil) throws(PluginError) {
    _ = try call(.delete, for: attachment)
  }

  /// Has the plugin look whether it knows of the addresses.
  func check() throws(PluginError) { _ = try call(.check) }

  /// Has the plugin forget what is not valid any more, where it can.
  func collect() throws(PluginError) {
    if try speaks(.v110) { _ = try call(.collect) }
  }

  /// Has the plugin tell whether it has addresses, where it can.
  func status() throws(PluginError) {
    if try speaks(.v110) { _ = try call(.status) }
  }

  // MARK: Calls

  private func call(
    _ verb: Call.Verb, for attachment: Attachment? = nil
  ) throws(PluginError) -> [UInt8] {
    do {
      return try call(verb, configuration, for: attachment)
    } catch {
      guard error.code == PluginError.Code.incompatibleVersion.rawValue,
        let other = try spokenVersions().filter({ $0 < version }).max(),
        case .object(var members) = configuration
      else { throw error }
      members["cniVersion"] = .text(other.rawValue)
      if case .object(var previous)? = members["prevResult"] {
        previous["cniVersion"] = .text(other.rawValue)
        members["prevResult"] = .object(previous)
      }
      return try call(verb, .object(members), for: attachment)
    }
  }

  private func call(
    _ verb: Call.Verb, _ configuration: JSON, for attachment: Attachment?
  ) throws(PluginError) -> [UInt8] {
    var variables = environment
    variables["CNI_COMMAND"] = verb.rawValue
    if let attachment {
      variables["CNI_CONTAINERID"] = attachment.containerID
      variables["CNI_IFNAME"] = attachment.interface
      variables["CNI_NETNS"] = ""
      variables["CNI_ARGS"] = ""
    }
    let outcome = try PluginProcess.run(
      path, environment: variables, input: Array(configuration.text.utf8))
    guard outcome.status == 0 else { throw failure(outcome, verb) }
    return outcome.output
  }

  /// What the plugin says of its failure.
  private func failure(_ outcome: PluginProcess.Outcome, _ verb: Call.Verb) -> PluginError {
    let answer = try? JSON(parsing: outcome.output, as: "")
    guard let answer, let code = answer["code"]?.integerValue,
      let message = answer["msg"]?.textValue
    else {
      return PluginError(
        .refused,
        "the IPAM plugin \(name) failed on \(verb.rawValue) with status \(outcome.status), without saying why"
      )
    }
    return PluginError(
      number: code, "the IPAM plugin \(name) refuses \(verb.rawValue): \(message)",
      details: answer["details"]?.textValue ?? "")
  }

  private func spokenVersions() throws(PluginError) -> [SpecificationVersion] {
    let question = JSON.object(["cniVersion": .text(version.rawValue)])
    let answer = try JSON(
      parsing: try call(.version, question, for: nil),
      as: "what the IPAM plugin \(name) says of its versions"
    )
    return (answer["supportedVersions"]?.arrayValue ?? []).compactMap(\.textValue)
      .compactMap(SpecificationVersion.init(text:))
  }

  private func speaks(_ version: SpecificationVersion) throws(PluginError) -> Bool {
    try spokenVersions().contains(version)
  }
}
