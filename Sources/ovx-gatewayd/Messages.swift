private import Glibc

/// What is told to the operator, on standard error: each fault when it comes, and not again while
/// it lasts.
final class Messages {
  /// What a fault is about.
  enum Subject: Hashable {
    /// The connection to the switch.
    case `switch`
    /// What the switch does not let itself be told.
    case report
    /// Programs, or parts of the kernel, without which there are no gateways.
    case tools
    /// All gateways: what was to be done has failed.
    case gateways
    /// The host around them.
    case host
    /// The same, for packets of IPv6.
    case hostIPv6
    /// Where the transit pairs' addresses are from.
    case transit
    case router(String)
    case port(String)
    case services(String)
    case floating(String)
    /// The host's routes to it, besides others of the host.
    case routes(String)
    /// What its members publish, beside what the host itself has there.
    case published(String)

    /// The one network that it is about, if it is about one.
    var network: String? {
      switch self {
      case .router(let network), .port(let network), .services(let network),
        .floating(let network), .routes(let network), .published(let network):
        network
      default: nil
      }
    }
  }

  private var lasting: [Subject: [String]] = [:]

  /// What is wrong with some subjects, in their order: sentences without the name of a network.
  func faults(of subjects: [Subject]) -> [String] { subjects.flatMap { lasting[$0] ?? [] } }

  /// Tells of something that was done.
  func note(_ sentence: String) { write("info", sentence) }

  /// Tells what is wrong with something, unless that has been told.
  func tell(_ sentence: String, about subject: Subject) { tell([sentence], about: subject) }

  /// Tells all that is wrong with something, but for what has been told.
  func tell(_ sentences: [String], about subject: Subject) {
    let told = lasting[subject] ?? []
    for sentence in sentences where !told.contains(sentence) {
      write("warning", (subject.network.map { "network \($0): " } ?? "") + sentence)
    }
    lasting[subject] = sentences.isEmpty ? nil : sentences
  }

  /// Takes notice that nothing is wrong with something any more.
  func clear(_ subject: Subject) { lasting[subject] = nil }

  /// Forgets what was about networks that have no gateway any more.
  func forget(exceptFor networks: Set<String>) {
    lasting = lasting.filter { subject, _ in subject.network.map(networks.contains) ?? true }
  }

  private func write(_ level: String, _ sentence: String) {
    let line = "ovx-gatewayd: \(level): \(sentence)\n"
    var bytes = Array(line.utf8)
    _ = unsafe Glibc.write(STDERR_FILENO, &bytes, bytes.count)
  }
}
