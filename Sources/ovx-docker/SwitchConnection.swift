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
    let list = try send([
      .list(
        table: "Network", records: [],
        columns: ["name", "bridge", "subnet", "gateway", "external_ids"], ifExists: false)
    ])[0].rows
    return list.rows.map { row in
      Network(
        name: list.text("name", row) ?? "", bridge: list.text("bridge", row) ?? "",
        subnets: list.texts("subnet", row), gateways: list.texts("gateway", row),
        externalIDs: list.entries("external_ids", row))
    }
  }

  /// Carries out commands, all of them or none.
  func send(_ commands: [Command]) throws(ControlError) -> [Reply] {
    try client.replies(to: commands, timeout: Self.timeout)
  }
}
