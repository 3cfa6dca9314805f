package import OVXDatapath

// Reads arguments that are neither names nor settings.

extension Command {
  /// Reads a VLAN.
  package static func vlan(_ text: String) throws(ControlError) -> VLANID {
    guard let number = UInt16(text), let vlan = VLANID(rawValue: number) else {
      throw ControlError(
        "VLAN \"\(printable(text))\" is not in the valid range 0 to 4095 (inclusive)"
      )
    }
    return vlan
  }

  /// Reads what stands behind `trace PORT to`: an address, and words that say more of the frame.
  package static func trace(
    to words: [String], from port: String
  ) throws(ControlError) -> Command {
    guard let text = words.first, let address = IPAddress(text) else {
      throw ControlError(
        "trace \(printable(port)) to \(printable(words.first ?? "")): behind \"to\" comes an address, "
          + "such as 10.0.0.2 or fd00::2")
    }
    return .traceTo(
      port: port, address: address, words: words.dropFirst().joined(separator: ","))
  }

  /// Reads an Ethernet address.
  package static func address(_ text: String) throws(ControlError) -> MACAddress {
    guard let address = MACAddress(text) else {
      throw ControlError(
        "\"\(printable(text))\" is not an Ethernet address; it looks like 02:00:00:00:00:01"
      )
    }
    return address
  }
}

extension Configuration.Attachment {
  /// Makes an attachment of what was typed, and takes `ip` and `gateway` out of the settings.
  ///
  /// - Parameters:
  ///   - target: The container.
  ///   - interface: The device's name inside.
  ///   - settings: What stands behind them; the settings that are left are the port's.
  /// - Throws: Which address cannot be read, and how one looks.
  package init(
    target: String,
    interface: String,
    takingFrom settings: inout [Setting]
  ) throws(ControlError) {
    self.init(target: target, interface: interface)
    var others: [Setting] = []
    for setting in settings {
      let parts = setting.value.split(separator: ",", omittingEmptySubsequences: false).map(
        String.init
      )
      switch (setting.column.lowercased(), setting.key) {
      case ("ip", nil): for part in parts { addresses.append(try Self.address(part)) }
      case ("gateway", nil): for part in parts { gateways.append(try Self.gateway(part)) }
      default: others.append(setting)
      }
    }
    settings = others
  }

  private static func address(_ text: String) throws(ControlError) -> InterfaceAddress {
    guard let address = InterfaceAddress(text) else {
      throw ControlError(
        "ip=\(printable(text)) is not an address with the length of its prefix; "
          + "type it like 10.0.0.5/24 or fd00::5/64"
      )
    }
    return address
  }

  private static func gateway(_ text: String) throws(ControlError) -> IPAddress {
    guard let address = IPAddress(text) else {
      throw ControlError(
        "gateway=\(printable(text)) is not an address; type it like 10.0.0.1 or fd00::1"
      )
    }
    return address
  }
}
