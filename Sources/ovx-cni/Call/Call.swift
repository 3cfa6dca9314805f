private import OVXControl

/// What a runtime asks for, as the environment says it (specification, section 2, "Parameters").
struct Call: Equatable {
  var command: Verb
  /// The container; empty where the command is about none.
  var containerID = ""
  /// The path of the container's network namespace; empty where there is none any more.
  var namespace = ""
  /// The interface's name inside of the container; empty where the command is about none.
  var interface = ""
  /// What was asked for by `CNI_ARGS`.
  var arguments = CallArguments()
  /// The directories that plugins are looked for in.
  var searchPath: [String] = []
  /// The daemon's run directory where the configuration names none: `OVX_RUNDIR`; `nil` for the
  /// usual one.
  var runDirectory: String?

  /// The operations of the specification.
  enum Verb: String, CaseIterable {
    case add = "ADD"
    case delete = "DEL"
    case check = "CHECK"
    case collect = "GC"
    case status = "STATUS"
    case version = "VERSION"
  }
}

extension Call {
  /// Reads the environment.
  ///
  /// Of `VERSION` only the command counts: runtimes put what they like into the other variables.
  ///
  /// - Parameter environment: The variables by name.
  /// - Throws: Code 4, with the names of all variables that are missing or wrong.
  init(environment: [String: String]) throws(PluginError) {
    func value(_ name: String) -> String { environment[name] ?? "" }
    let word = value("CNI_COMMAND")
    guard let verb = Verb(rawValue: word) else {
      let choices = Verb.allCases.map(\.rawValue).joined(separator: ", ")
      throw PluginError(
        .badEnvironment,
        word.isEmpty
          ? "CNI_COMMAND is not set; ovx-cni is run by a container runtime, which sets it to one of \(choices)"
          : "CNI_COMMAND \"\(word)\" is not one of \(choices)")
    }
    command = verb
    guard verb != .version else { return }
    searchPath = value("CNI_PATH").split(separator: ":").map(String.init)
    runDirectory = environment["OVX_RUNDIR"].flatMap { $0.isEmpty ? nil : $0 }
    guard [.add, .delete, .check].contains(verb) else { return }

    containerID = value("CNI_CONTAINERID")
    namespace = value("CNI_NETNS")
    interface = value("CNI_IFNAME")
    var required = [("CNI_CONTAINERID", containerID), ("CNI_IFNAME", interface)]
    if verb != .delete { required.append(("CNI_NETNS", namespace)) }
    let missing = required.filter { $0.1.isEmpty }.map(\.0)
    guard missing.isEmpty else {
      throw PluginError(
        .badEnvironment,
        "\(missing.joined(separator: ", ")) \(missing.count == 1 ? "is" : "are") not set, which \(verb.rawValue) needs"
      )
    }
    let faults = [
      Self.fault(ofIdentifier: containerID).map { "CNI_CONTAINERID \"\(containerID)\" \($0)" },
      Self.fault(ofInterface: interface).map { "CNI_IFNAME \"\(interface)\" \($0)" },
      // DEL is also for what is left of a container, by a name that may be gone.
      verb == .delete
        ? nil : Self.fault(ofNamespace: namespace).map { "CNI_NETNS \"\(namespace)\" \($0)" },
    ].compactMap(\.self)
    guard faults.isEmpty else {
      throw PluginError(.badEnvironment, faults.joined(separator: "; "))
    }
    arguments = try CallArguments(parsing: value("CNI_ARGS"))
  }

  /// What is wrong with a container's id, or a network's name; `nil` for nothing.
  ///
  /// - Parameter text: The id.
  /// - Returns: The part of a sentence that follows it.
  static func fault(ofIdentifier text: String) -> String? {
    let isFine =
      text.utf8.first.map(isAlphanumeric) == true
      && text.utf8.allSatisfy { isAlphanumeric($0) || "_.-".utf8.contains($0) }
    guard isFine else {
      return "has to begin with a letter or a digit, and to have only those, \"_\", \".\" and \"-\""
    }
    return text.utf8.count <= 1024 ? nil : "is longer than 1024 bytes"
  }

  private static func isAlphanumeric(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"):
      true
    default: false
    }
  }

  private static func fault(ofInterface name: String) -> String? {
    guard name.utf8.count <= 15 else { return "is longer than 15 bytes" }
    guard name != ".", name != ".." else { return "is no name of an interface" }
    let isFine = name.unicodeScalars.allSatisfy {
      !$0.properties.isWhitespace && $0.properties.generalCategory != .control
        && !"/:%".unicodeScalars.contains($0)
    }
    return isFine ? nil : "contains one of / : % and white space"
  }

  /// A word without a slash would be taken for the name of a container by the daemon, and "self"
  /// for the daemon's own.
  private static func fault(ofNamespace path: String) -> String? {
    guard !path.isEmpty else { return nil }
    guard path.hasPrefix("/"), path.utf8.count < 4096 else {
      return "is no absolute path of a network namespace, such as /run/netns/NAME"
    }
    guard !path.hasPrefix("/proc/self/"), !path.hasPrefix("/proc/thread-self/") else {
      return "means another namespace to each process; name it as /proc/PID/ns/net"
    }
    return nil
  }
}
