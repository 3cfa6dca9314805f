private import OVXDatapath
@_spi(_Unicode) private import Swift

/// Checks a name that a network device of the host or of a container is to have.
///
/// - Parameters:
///   - name: 1 to 15 bytes (`IFNAMSIZ` of <linux/if.h>) without `/`, `:`, `%`, white space and
///     control characters, as the kernel wants it, and not beginning with `-`, as no command line
///     could name it then; of the ways in which Unicode writes a letter, the composed one.
///   - kind: What it is the name of, for the sentence.
/// - Throws: What is wrong with it.
func checkDeviceName(_ name: String, of kind: String) throws(ControlError) {
  let rule = "a name has 1 to 15 bytes and none of / : % and white space"
  guard !name.isEmpty else {
    let article = kind.first.map { "aeiou".contains($0) } == true ? "an" : "a"
    throw ControlError("the name of \(article) \(kind) must not be empty; \(rule)")
  }
  guard name.utf8.count <= 15 else {
    throw ControlError(
      "the \(kind) name \"\(printable(name))\" has \(name.utf8.count) bytes; \(rule)"
    )
  }
  if let character = name.unicodeScalars.first(where: { !isAllowed($0) }) {
    let shown =
      character.properties.isWhitespace ? "white space" : "\"\(printable(String(character)))\""
    throw ControlError("the \(kind) name \"\(printable(name))\" contains \(shown); \(rule)")
  }
  // Names that Swift takes for the same are the same bytes then, to the kernel and in the database.
  guard name._nfc.elementsEqual(name.unicodeScalars) else {
    throw ControlError(
      "the \(kind) name \"\(name)\" has letters in pieces, which look like whole ones and are not the same; "
        + "write it in Unicode's composed form (NFC)"
    )
  }
  guard name.utf8.first != UInt8(ascii: "-") else {
    throw ControlError(
      "the \(kind) name \"\(name)\" begins with a hyphen, like an option; take another"
    )
  }
  // The last two are directories below /proc/sys/net/ipv4/conf, so the kernel refuses devices of
  // that name.
  guard ![".", "..", "all", "default"].contains(name) else {
    throw ControlError("the \(kind) name \"\(name)\" is reserved by the kernel; take another")
  }
}

/// Checks the name of a port, which an attachment's may be longer than a device's.
func checkPortName(_ port: Configuration.Port) throws(ControlError) {
  guard port.interface.attachment != nil else {
    return try checkDeviceName(port.name, of: "port")
  }
  guard !port.name.isEmpty, port.name.utf8.count <= 63,
    port.name.unicodeScalars.allSatisfy(isAllowed), port.name.utf8.first != UInt8(ascii: "-")
  else {
    throw ControlError("the port name \"\(printable(port.name))\" cannot be used for an attachment")
  }
}

private func isAllowed(_ scalar: Unicode.Scalar) -> Bool {
  !scalar.properties.isWhitespace && scalar.properties.generalCategory != .control
    && !"/:%".unicodeScalars.contains(scalar)
}

/// A text without characters that would move a terminal's cursor, or begin a line of their own.
package func printable(_ text: String) -> String {
  var result = ""
  for scalar in text.unicodeScalars {
    result += scalar.properties.generalCategory == .control ? "?" : String(scalar)
  }
  return result
}

/// A text as it fits a sentence: what is quoted of a long name is its beginning, and of a long text
/// its two ends.
///
/// Whoever sends a megabyte for a name is not to get it back, nor to have it in the log.
package func brief(_ text: String) -> String {
  guard text.utf8.count > BriefText.wordLimit else { return text }
  var result = ""
  var word = ""
  func keep(_ word: String) -> String {
    guard word.utf8.count > BriefText.wordLimit else { return word }
    // What ends a quotation or a part of the sentence is not the word's.
    let marks = word.unicodeScalars.suffix(4).reversed().prefix {
      "\"'`,;:.)".unicodeScalars.contains($0)
    }
    let long = word.unicodeScalars.dropLast(marks.count)
    return String(String.UnicodeScalarView(long.prefix(BriefText.keptOfWord)))
      + "… (\(word.utf8.count - marks.count) bytes)"
      + String(String.UnicodeScalarView(marks.reversed()))
  }
  for scalar in text.unicodeScalars {
    guard scalar.properties.isWhitespace else {
      word.unicodeScalars.append(scalar)
      continue
    }
    result += keep(word)
    result.unicodeScalars.append(scalar)
    word = ""
  }
  result += keep(word)
  guard result.utf8.count > BriefText.limit else { return result }
  let scalars = result.unicodeScalars
  return String(String.UnicodeScalarView(scalars.prefix(BriefText.limit / 8))) + " … "
    + String(String.UnicodeScalarView(scalars.suffix(BriefText.limit / 8)))
}

/// Lengths for ``brief(_:)``, in bytes but for `keptOfWord`, which counts Unicode scalars.
private enum BriefText {
  /// No path that a socket can have, nor any name, is longer.
  static let wordLimit = 300
  static let keptOfWord = 60
  /// A scalar has up to four bytes, and two ends of an eighth each are kept.
  static let limit = 4096
}

extension Configuration.Attachment {
  /// A name for the port: `eth0@web1`, at most 15 bytes after the `@`, and not one of the names in
  /// use.
  ///
  /// Of a path only what tells targets apart stands in it: `web1` for `/run/netns/web1`, `pid7` for
  /// `pid:7` and `/proc/7/ns/net`; of a container's id the 12 digits by which docker and podman
  /// know it.
  func portName(notIn taken: (String) -> Bool) -> String {
    let name = interface + "@" + shortTarget
    guard taken(name) else { return name }
    var number = 2
    while taken("\(name)~\(number)") { number &+= 1 }
    return "\(name)~\(number)"
  }

  private var shortTarget: String {
    let parts = target.split(separator: "/").map(String.init)
    let last =
      if parts.count == 4, parts[0] == "proc", parts[2] == "ns" {
        "pid" + parts[1]
      } else {
        parts.last ?? target
      }
    let isContainerID = last.utf8.count == 64 && last.allSatisfy(\.isHexDigit)
    var short = ""
    for scalar in last.unicodeScalars where isAllowed(scalar) {
      guard short.utf8.count + String(scalar).utf8.count <= (isContainerID ? 12 : 15) else { break }
      short.unicodeScalars.append(scalar)
    }
    return short.isEmpty ? "target" : short
  }

  /// Checks the target, the device's name inside, and that addresses and gateways fit together.
  func check() throws(ControlError) {
    guard !target.isEmpty, target.utf8.count <= 4096,
      target.unicodeScalars.allSatisfy({ $0 != "\0" })
    else {
      throw ControlError(
        "the target is empty or too long; name a network namespace, pid:N, a path or a container"
      )
    }
    if target.hasPrefix("pid:"), (Int32(target.dropFirst(4)) ?? 0) <= 0 {
      throw ControlError(
        "the target \"\(printable(target))\" has no process id; after pid: comes a number above 0"
      )
    }
    try checkDeviceName(interface, of: "interface")
    guard interface != "lo" else {
      throw ControlError("\"lo\" is the loopback of \(target); take another name, such as eth0")
    }
    try checkAddresses()
  }

  private func checkAddresses() throws(ControlError) {
    try OVXControl.checkAddresses(addresses, as: "ip")
    for (index, gateway) in gateways.enumerated() {
      guard !gateways[..<index].contains(where: { $0.isIPv6 == gateway.isIPv6 }) else {
        throw ControlError(
          "there are two gateways, \(gateways[0]) and \(gateway), of one address family; name one"
        )
      }
      guard !addresses.contains(where: { $0.address == gateway }) else {
        throw ControlError(
          "gateway \(gateway) is the interface's own address; name the address of the router"
        )
      }
      guard gateway.isLinkLocalIPv6 || addresses.contains(where: { $0.contains(gateway) }) else {
        let networks = addresses.map(\.description).joined(separator: ", ")
        throw ControlError(
          "gateway \(gateway) is in none of the interface's networks"
            + (networks.isEmpty
              ? "; give it an address too, with ip=ADDRESS/LENGTH"
              : " (\(networks)); name the router's address there")
        )
      }
    }
  }
}

/// Checks the addresses that an interface is to have.
///
/// - Parameters:
///   - addresses: Each of them unicast, none twice.
///   - name: What the user calls one, for the sentence.
/// - Throws: Which one is wrong.
func checkAddresses(_ addresses: [InterfaceAddress], as name: String) throws(ControlError) {
  for (index, address) in addresses.enumerated() {
    let host = address.address
    guard host.isUnicast, !host.isIPv4Mapped else {
      throw ControlError(
        "\(name) \(address) cannot be the address of an interface; give it a unicast address"
      )
    }
    guard !addresses[..<index].contains(where: { $0.address == host }) else {
      throw ControlError("\(name) \(host) is there twice; name each address once")
    }
  }
}
