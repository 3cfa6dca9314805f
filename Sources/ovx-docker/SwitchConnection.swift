internal import OVXControl

/// The switch of this host, as both drivers ask it.
struct SwitchConnection {
  private let client: ControlClient
  /// Seconds that it has for an answer.
  private static let timeout = 10.0

  init(_ client: ControlClient) {
    self.client = client
  }

  /// A network as the drivers need it.
  struct Network {
    var name: String
    var bridge: String
    var subnets: [String]
    var gateways: [String]
    var externalIDs: [String: String]
  }

  func networks() throws(ControlError) -> [Network] {
    let columns = ["name", "bridge", "subnet", "gateway", "external_ids"]
    let replies = try send([
      .list(table: "Network", records: [], columns: columns, ifExists: false)
    ])
    guard case .records(let list)? = replies.first else { return [] }
    return list.rows.compactMap { row in
      guard row.count == columns.count, case .map(let ids) = row[4] else { return nil }
      return Network(
        name: row[0].atoms.first?.bare ?? "", bridge: row[1].atoms.first?.bare ?? "",
        subnets: row[2].atoms.map(\.bare), gateways: row[3].atoms.map(\.bare),
        externalIDs: ids.mapValues(\.bare))
    }
  }

  /// Carries out commands, all of them or none.
  func send(_ commands: [Command]) throws(ControlError) -> [Reply] {
    let response = try client.send(
      Request(commands: commands, timeout: Self.timeout, dryRun: false))
    switch response.outcome {
    case .done(let replies): return replies
    case .failed(let error): throw error
    }
  }
}
