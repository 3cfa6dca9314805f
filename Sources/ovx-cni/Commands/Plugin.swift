/// One call of the plugin, from its environment and its input to what is printed.
struct Plugin {
  private let environment: [String: String]

  init(environment: [String: String]) {
    self.environment = environment
  }

  /// How a call ends.
  struct Answer: Equatable {
    /// What to print; `nil` for nothing.
    var output: JSON?
    /// The exit status.
    var status: Int32
    /// What to do where the output cannot be printed: nobody has learned of what was made.
    var undo: Undo?
  }

  /// What a call has made, so that it can be taken away again.
  struct Undo: Equatable {
    var call: Call
    var configuration: NetworkConfiguration
  }

  /// Answers the call.
  ///
  /// - Parameter input: Reads standard input.
  /// - Returns: A result, nothing, or an error in the form that the specification gives it.
  func answer(_ input: () throws(PluginError) -> [UInt8]) -> Answer {
    // What an error is written in: the configuration's own version, as soon as that is known.
    var version = SpecificationVersion.latest
    do throws(PluginError) {
      let call = try Call(environment: environment)
      let json = try JSON(
        parsing: try input(), as: "the network configuration on standard input")
      if call.command == .version { return Answer(output: try Self.versions(json), status: 0) }
      version = try NetworkConfiguration.version(of: json)
      return try answer(
        call, try NetworkConfiguration(json, runDirectory: call.runDirectory))
    } catch {
      return Answer(output: Self.json(error, version), status: 1)
    }
  }

  private func answer(
    _ call: Call, _ configuration: NetworkConfiguration
  ) throws(PluginError) -> Answer {
    try Self.checkVersion(configuration.version, for: call.command)
    let task = NetworkTask(
      configuration: configuration, daemon: Daemon(runDirectory: configuration.runDirectory),
      addressPlugin: try AddressPlugin(
        of: configuration, in: call.searchPath, environment: environment))
    switch call.command {
    case .add:
      return Answer(
        output: try task.add(call), status: 0,
        undo: Undo(call: call, configuration: configuration))
    case .delete: try task.delete(call)
    case .check: try task.check(call)
    case .collect: try task.collect()
    case .status: try task.status()
    case .version: break
    }
    return Answer(output: nil, status: 0)
  }

  /// Takes away what `ADD` has made and nobody has been told of.
  func undo(_ undo: Undo) {
    _ = try? answer(
      Call(undo.call, command: .delete), undo.configuration)
  }

  /// Some operations are younger than others.
  private static func checkVersion(
    _ version: SpecificationVersion, for verb: Call.Verb
  ) throws(PluginError) {
    let first: SpecificationVersion =
      switch verb {
      case .check: .v040
      case .collect, .status: .v110
      case .add, .delete, .version: .v030
      }
    guard version >= first else {
      throw PluginError(
        .incompatibleVersion,
        "the network configuration is of version \(version.rawValue), which has no \(verb.rawValue); "
          + "it came with \(first.rawValue)")
    }
  }

  /// What is spoken (specification, section 2, "VERSION").
  private static func versions(_ json: JSON) throws(PluginError) -> JSON {
    guard case .object = json else {
      throw PluginError(
        .undecodable, "the input of VERSION is \(json.kind), and has to be an object")
    }
    let version = json["cniVersion"]?.textValue.flatMap(SpecificationVersion.init(text:))
    return .object([
      "cniVersion": .text((version ?? .latest).rawValue),
      "supportedVersions": .array(SpecificationVersion.allCases.map { .text($0.rawValue) }),
    ])
  }

  private static func json(_ error: PluginError, _ version: SpecificationVersion) -> JSON {
    var members: [String: JSON] = [
      "cniVersion": .text(version.rawValue), "code": .integer(error.code),
      "msg": .text(error.message),
    ]
    if !error.details.isEmpty { members["details"] = .text(error.details) }
    return .object(members)
  }
}

extension Call {
  /// The same attachment, for another operation.
  init(_ other: Call, command: Verb) {
    self = other
    self.command = command
  }
}

/// A network, and whom its operations need.
struct NetworkTask {
  var configuration: NetworkConfiguration
  var daemon: Daemon
  var addressPlugin: AddressPlugin?
}
