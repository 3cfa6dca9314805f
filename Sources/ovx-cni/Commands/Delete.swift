private import OVXControl

extension NetworkTask {
  /// Detaches a container, and gives its addresses back; what is gone already is no error.
  ///
  /// The addresses come last: while the interface is there nobody else may have them. So a daemon
  /// that does not answer leaves them taken, and the runtime calls again.
  ///
  /// - Parameter call: Which container, and which interface; its namespace may be gone.
  /// - Throws: What is left, and why.
  func delete(_ call: Call) throws(PluginError) {
    let ports = try daemon.ports(
      of: configuration.name, container: call.containerID, interface: call.interface)
    for port in ports { try daemon.remove(port) }
    try addressPlugin?.delete()
  }

  /// Detaches all containers that the runtime does not know any more.
  ///
  /// One that cannot be detached does not keep the others.
  ///
  /// - Throws: The first error, with all of them in its words.
  func collect() throws(PluginError) {
    let valid = try validAttachments()
    var errors: [PluginError] = []
    for port in try daemon.ports(of: configuration.name) {
      guard !valid.contains(Attachment(container: port.container, interface: port.interface)) else {
        continue
      }
      do throws(PluginError) {
        try daemon.remove(port)
        try addressPlugin?.delete(
          AddressPlugin.Attachment(containerID: port.container, interface: port.interface))
      } catch {
        errors.append(error)
      }
    }
    do throws(PluginError) { try addressPlugin?.collect() } catch { errors.append(error) }
    guard let first = errors.first else { return }
    throw PluginError(
      number: first.code, errors.map(\.message).joined(separator: "; "), details: first.details)
  }

  private struct Attachment: Hashable {
    var container: String
    var interface: String
  }

  /// The attachments that are to stay.
  ///
  /// - Throws: Code 7 where they are not told in full: what is not among them is removed.
  private func validAttachments() throws(PluginError) -> Set<Attachment> {
    let name = "cni.dev/valid-attachments"
    guard let elements = configuration.json[name]?.arrayValue else {
      throw PluginError(
        .invalidConfiguration,
        "GC needs \"\(name)\" in the network configuration, an array of what is to stay")
    }
    var valid: Set<Attachment> = []
    for element in elements {
      guard let container = element["containerID"]?.textValue,
        let interface = element["ifname"]?.textValue
      else {
        throw PluginError(
          .invalidConfiguration,
          "\"\(name)\" has an element without a \"containerID\" or an \"ifname\"; nothing was removed"
        )
      }
      valid.insert(Attachment(container: container, interface: interface))
    }
    return valid
  }
}
