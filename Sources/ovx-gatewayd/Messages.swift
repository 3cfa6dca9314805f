private import Glibc

/// What is told to the operator, on standard error: each fault when it comes, and not again while it lasts.
final class Messages {
  private var lasting: [String: [String]] = [:]

  /// Tells of something that was done.
  func note(_ sentence: String) { write("info", sentence) }

  /// Tells what is wrong with something, unless that has been told.
  func tell(_ sentence: String, about subject: String) { tell([sentence], about: subject) }

  /// Tells all that is wrong with something, but for what has been told.
  func tell(_ sentences: [String], about subject: String) {
    let told = lasting[subject] ?? []
    for sentence in sentences where !told.contains(sentence) { write("warning", sentence) }
    lasting[subject] = sentences
  }

  /// Takes notice that nothing is wrong with something any more.
  func clear(_ subject: String) { lasting[subject] = nil }

  private func write(_ level: String, _ sentence: String) {
    let line = "ovx-gatewayd: \(level): \(sentence)\n"
    var bytes = Array(line.utf8)
    _ = unsafe Glibc.write(STDERR_FILENO, &bytes, bytes.count)
  }
}
