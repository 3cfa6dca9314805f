/// Chains of the packet filter whose policy it is to drop, as `nft list chains` tells them.
///
/// - Parameters:
///   - hook: Where they are: `input` or `forward`.
///   - text: What nft(8) has printed.
/// - Returns: Each with its table, family and name as nft takes them (`inet filter`), in the order
///   of the text; none of family `bridge`, which sees no packets of the host's own.
package func droppingChains(at hook: String, in text: String) -> [(table: String, chain: String)] {
  var found: [(table: String, chain: String)] = []
  var table = ""
  var chain = ""
  for line in text.split(separator: "\n") {
    let words = line.split { $0 == " " || $0 == "\t" }
    if words.first == "table" { table = words.dropFirst().prefix(2).joined(separator: " ") }
    if words.first == "chain", words.count > 1 { chain = String(words[1]) }
    guard !table.hasPrefix("bridge"), line.contains("hook \(hook)"), line.contains("policy drop")
    else { continue }
    found.append((table, chain))
  }
  return found
}
