/// Why the daemon cannot start: one sentence for the operator, with the culprit and the remedy.
struct StartFailure: Error, CustomStringConvertible {
  let description: String

  init(_ sentence: String) {
    description = sentence
  }
}
