private import Foundation
internal import OVXControl
private import Yams

/// A configuration as the file from which `apply` makes it again.
struct ExportedFile {
  let configuration: Configuration

  /// YAML, a line for each port; what attach has made is named in a comment, as it is not part of
  /// it.
  var yaml: String {
    get throws(ControlError) {
      let attached = configuration.ports.values.filter {
        $0.interface.attachment != nil && !configuration.isGateway($0)
      }
      .map(\.name).sorted()
      let comment = attached.map { "# Not in here, as attach made it: \($0)\n" }.joined()
      do {
        let node = Self.node(Declaration.tree(of: configuration), depth: 0)
        return comment
          + Self.defused(
            try serialize(node: node, width: -1, allowUnicode: true))
      } catch {
        throw ControlError("the configuration cannot be written as YAML: \(error)")
      }
    }
  }

  /// The same as JSON, which YAML includes.
  var json: String {
    get throws(ControlError) {
      Self.defused(try Output.encode(Declaration.tree(of: configuration)))
    }
  }

  /// The text with escapes for what its writer leaves as it is and a reader of files takes
  /// otherwise or refuses.
  ///
  /// Control characters, ends of lines that only YAML knows, and what could be an alias: all stand
  /// in double quotes.
  private static func defused(_ text: String) -> String {
    let hasAnchor = text.utf8.contains(UInt8(ascii: "&"))
    var result = ""
    for scalar in text.unicodeScalars {
      let isSpecial =
        switch scalar.properties.generalCategory {
        case .control: scalar != "\n"
        case .lineSeparator, .paragraphSeparator, .format: scalar.value <= 0xFFFF
        case .unassigned: 0xFFFE...0xFFFF ~= scalar.value
        default: hasAnchor && scalar == "*"
        }
      if isSpecial {
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      } else {
        result.unicodeScalars.append(scalar)
      }
    }
    return result
  }

  /// Bridges and their ports are indented below each other; what one of them has is on its line.
  private static func node(_ tree: Declaration.Node, depth: Int) -> Node {
    switch tree {
    case .atom(let atom):
      return scalar(atom)
    case .list(let atoms):
      return Node(atoms.map(scalar), .implicit, .flow)
    case .map(let members):
      let pairs = members.map { member in
        (scalar(.text(member.key)), node(member.value, depth: depth + 1))
      }
      let isFlow = members.isEmpty || depth > 3 || (depth == 3 && members.allSatisfy(\.isAtom))
      return Node(pairs, .implicit, isFlow || depth > 3 ? .flow : .block)
    }
  }

  private static func scalar(_ atom: Atom) -> Node {
    Node(atom.bare, .implicit, isPlain(atom) ? .plain : .doubleQuoted)
  }

  /// Whether every version of YAML reads the words back as they are written.
  private static func isPlain(_ atom: Atom) -> Bool {
    guard case .text(let text) = atom else { return true }
    if InterfaceAddress(text.contains("/") ? text : text + "/0") != nil { return true }
    if text.wholeMatch(of: /0|[1-9][0-9]{0,17}/) != nil { return true }
    let words = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"]
    return text.wholeMatch(of: /[A-Za-z_][A-Za-z0-9_.@\/-]*/) != nil
      && !words.contains(text.lowercased())
  }
}

extension Declaration.Node.Member {
  fileprivate var isAtom: Bool { if case .map = value { false } else { true } }
}
