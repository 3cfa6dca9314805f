/// What keeps VXLAN from passing the packet filter of the host, as nft(8) tells of it.
struct FilterBarrier: Equatable {
  enum Direction: Equatable { case incoming, outgoing }
  enum Cause: Equatable {
    /// The chain drops what it has no rule for.
    case policy
    /// The chain's last rule refuses all the rest.
    case rest(rule: String)
    /// A rule refuses the port by its number.
    case port(rule: String, handle: String?)
  }

  /// Family and name, as nft takes them: `inet filter`.
  var table: String
  var chain: String
  var direction: Direction
  var cause: Cause
  /// The UDP port that is kept out, or in.
  var port: UInt16

  /// The command that takes it away.
  var remedy: String {
    switch cause {
    case .policy: "`nft add rule \(table) \(chain) udp dport \(port) accept`"
    case .rest: "`nft insert rule \(table) \(chain) udp dport \(port) accept`"
    case .port(_, let handle?): "`nft delete rule \(table) \(chain) handle \(handle)`"
    case .port(_, nil): "delete that rule"
    }
  }

  /// What there is, a clause.
  var sentence: String {
    let way = direction == .incoming ? "in" : "out"
    return switch cause {
    case .policy:
      "chain \(chain) of nftables table \(table) drops what it does not let \(way), and does not name UDP port \(port)"
    case .rest(let rule):
      "chain \(chain) of nftables table \(table) has `\(rule)` for what it does not let \(way), and does not name UDP port \(port)"
    case .port(let rule, _):
      "chain \(chain) of nftables table \(table) has `\(rule)`, which keeps VXLAN from getting \(way)"
    }
  }
}

extension FilterBarrier {
  /// Tables that see what the host itself sends and receives, of `nft list chains`.
  ///
  /// - Returns: Each as nft takes it (`inet filter`), in the order of the text; none that ovx made.
  static func tables(in chains: String) -> [String] {
    var found: [String] = []
    var table = ""
    for line in chains.split(separator: "\n") {
      let words = line.split { $0 == " " || $0 == "\t" }
      if words.first == "table" { table = words.dropFirst().prefix(2).joined(separator: " ") }
      guard direction(of: line) != nil, isOfHost(table), found.last != table else { continue }
      found.append(table)
    }
    return found
  }

  private static func isOfHost(_ table: String) -> Bool {
    ["ip ", "ip6 ", "inet "].contains { table.hasPrefix($0) } && !table.hasPrefix("inet ovx")
  }

  /// What a chain's hook is for; `nil` for one that passes packets on, and for those that
  /// translate.
  private static func direction(of line: some StringProtocol) -> Direction? {
    guard line.contains("type filter hook ") else { return nil }
    for hook in ["input", "prerouting"] where line.contains("hook \(hook) ") { return .incoming }
    for hook in ["output", "postrouting"] where line.contains("hook \(hook) ") { return .outgoing }
    return nil
  }

  private struct ChainText {
    var name: String
    /// At which hooks it is, or those that jump to it.
    var directions: [Direction] = []
    /// Whether it is at a hook itself.
    var isBase = false
    var isDropping = false
    var rules: [Rule] = []
  }

  private struct Rule {
    /// As it is typed.
    var text: String
    var handle: String?
    /// Without what quotes hold.
    var words: [String]

    init(_ line: some StringProtocol) {
      let parts = line.split(separator: " # handle ", maxSplits: 1)
      text = String(parts[0].drop { $0 == "\t" || $0 == " " })
      handle = parts.count > 1 ? String(parts[1]) : nil
      // The first, third, … piece is outside of quotes.
      let outside = text.split(separator: "\"", omittingEmptySubsequences: false).enumerated()
        .filter { $0.offset.isMultiple(of: 2) }.map(\.element).joined(separator: " ")
      words = outside.split { " \t,{}:".contains($0) }.map(String.init)
    }

    var refuses: Bool { words.contains("drop") || words.contains("reject") }

    /// Whether it refuses whatever comes to it.
    var refusesAll: Bool {
      var rest = words[...]
      while let word = rest.first {
        switch word {
        case "counter": rest = rest.dropFirst()
        case "packets", "bytes", "level", "group", "snaplen", "flags": rest = rest.dropFirst(2)
        case "log", "prefix": rest = rest.dropFirst()
        case "drop", "reject": return true
        default: return false
        }
      }
      return false
    }

    /// Whether it is about UDP datagrams to a port.
    func names(_ port: UInt16) -> Bool {
      words.contains("dport") && !words.contains("tcp") && words.contains("\(port)")
    }

    /// Chains that it goes on in.
    var targets: [String] {
      zip(words, words.dropFirst()).compactMap { ["jump", "goto"].contains($0) ? $1 : nil }
    }
  }

  /// What a table keeps from passing.
  ///
  /// - Parameters:
  ///   - table: Its family and name.
  ///   - text: What `nft -a list table` has printed of it.
  ///   - ports: The UDP ports of tunnels.
  /// - Returns: What there is for each port that no rule of the table lets pass, by port.
  static func barriers(of table: String, in text: String, ports: Set<UInt16>) -> [FilterBarrier] {
    let chains = chains(in: text)
    let rules = chains.flatMap(\.rules)
    var found: [FilterBarrier] = []
    for port in ports.sorted() {
      // What lets some of it pass is somebody's choice of whom to hear.
      let isLetPass = rules.contains { $0.names(port) && !$0.refuses }
      guard !isLetPass else { continue }
      for chain in chains {
        for direction in chain.directions {
          func add(_ cause: Cause) {
            found.append(
              FilterBarrier(
                table: table, chain: chain.name, direction: direction, cause: cause, port: port))
          }
          if let rule = chain.rules.first(where: { $0.names(port) && $0.refuses }) {
            add(.port(rule: rule.text, handle: rule.handle))
          } else if let rule = chain.rules.first(where: \.refusesAll), chain.isBase {
            add(.rest(rule: rule.text))
          } else if chain.isDropping {
            add(.policy)
          }
        }
      }
    }
    return found
  }

  private static func chains(in text: String) -> [ChainText] {
    var chains: [ChainText] = []
    // Sets and maps have lines of their own outside of chains.
    var isInChain = false
    for line in text.split(separator: "\n") {
      let words = line.split { $0 == " " || $0 == "\t" }
      if words.first == "chain", words.count > 2 {
        chains.append(ChainText(name: String(words[1])))
        isInChain = true
      } else if words.first == "}" {
        isInChain = false
      } else if isInChain, words.first == "type" {
        guard let direction = direction(of: line) else { continue }
        chains[chains.count - 1].directions = [direction]
        chains[chains.count - 1].isBase = true
        chains[chains.count - 1].isDropping = line.contains("policy drop")
      } else if isInChain, words.first != "comment" {
        chains[chains.count - 1].rules.append(Rule(line))
      }
    }
    // Who is jumped to sees what the jumping one does; no way is longer than there are chains.
    for _ in chains.indices {
      for chain in chains where !chain.directions.isEmpty {
        let targets = Set(chain.rules.flatMap(\.targets))
        for index in chains.indices where targets.contains(chains[index].name) {
          for direction in chain.directions where !chains[index].directions.contains(direction) {
            chains[index].directions.append(direction)
          }
        }
      }
    }
    return chains
  }
}
