// Commands in the words of `ovx-ctl`, for the log of who has changed what.

extension Request {
  /// Bytes of a summary at most.
  package static let summaryLimit = 800

  /// What it changes, in words: on one line of bounded length, and without the values of
  /// `external_ids`, in which programs keep what they like.
  package var changeSummary: String {
    let changes = commands.filter { $0.right == .change }
    var text = ""
    for (index, command) in changes.enumerated() {
      let words = command.summary
      guard text.utf8.count + words.utf8.count <= Self.summaryLimit else {
        let rest = changes.count - index
        return text + (text.isEmpty ? "" : " -- and ") + "\(rest) command\(rest == 1 ? "" : "s")"
          + (text.isEmpty ? " too long for the log" : " more")
      }
      text += (text.isEmpty ? "" : " -- ") + words
    }
    return text
  }
}

extension Command {
  /// Itself as it is typed, long words and texts cut.
  package var summary: String { printable(brief(declaration.words().joined(separator: " "))) }
}
