/// What has to happen before a request can be carried out that waits: what its `wait-until`s are
/// about.
///
/// The daemon holds such a request, and looks at it anew with each such news, which are those that
/// its watches are fed with.
package struct AwaitedNews: Sendable {
  /// Ports, by their names.
  private var ports: Set<String> = []
  /// Whether it may be any port, as some name is to be found out first, or as a network's record
  /// tells of its ports.
  private var isAnyPort = false
  /// Whether it is about a record of another table.
  private var isConfiguration = false
  /// Whether a condition is about counters, of which there is no news: they have to be looked at
  /// again and again.
  package private(set) var includesCounters = false

  /// What a request waits for; `nil` for one that has no `wait-until`.
  package init?(_ request: Request) {
    var waits = false
    for case .waitUntil(let table, let record, let conditions) in request.commands {
      waits = true
      switch try? Schema.TableName(matching: table) {
      case .port?, .interface?:
        // A name within the transaction or a `_uuid` is another name than the port's.
        if record.hasPrefix("@") || RecordID.isText(record) { isAnyPort = true }
        ports.insert(record)
      case .network?: (isAnyPort, isConfiguration) = (true, true)
      case .bridge?, .host?, nil: isConfiguration = true
      }
      includesCounters =
        includesCounters
        || conditions.contains {
          (try? Table.interfaces.column(matching: $0.column))?.name == "statistics"
        }
    }
    guard waits else { return nil }
  }

  /// Whether the request is to be looked at anew.
  ///
  /// - Parameters:
  ///   - examined: The ports of which something may have become.
  ///   - isConfigured: Whether the configuration has changed.
  /// - Returns: Whether it may have become so.
  package func isAmong(_ examined: Set<String>, isConfigured: Bool) -> Bool {
    (isConfiguration && isConfigured) || (isAnyPort && (isConfigured || !examined.isEmpty))
      || !ports.isDisjoint(with: examined)
  }
}
