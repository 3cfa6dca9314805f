import OVXDatapath
import Testing

@testable import OVXControl

/// Which addresses are asked for ahead, of those that a network may give next.
@Suite struct AheadTests {
  private func attach(
    _ states: [String: AddressState], range: String
  ) throws -> (given: String?, questions: [String], prospects: [String]) {
    var configuration = Configuration()
    let bench = try Workbench("add-net red vni=100 subnet=172.17.42.0/24 range=\(range)")
    configuration = bench.configuration
    let transaction = try Transaction.execute(
      [
        .attach(
          bridge: "red",
          attachment: Configuration.Attachment(target: "c1", interface: "eth0"), settings: [],
          mayExist: false)
      ], on: &configuration,
      live: LiveState(
        deviceExists: { _ in false },
        addressStates: { $0.map { states[$0.address.description] ?? .unknown } }))
    func texts(_ questions: [AddressQuestion]) -> [String] { questions.map { "\($0.address)" } }
    return (
      configuration.ports["eth0@c1"]?.interface.attachment?.addresses.first?.address.description,
      texts(transaction.questions), texts(transaction.prospects)
    )
  }

  @Test func theNextOnesAreAskedForWhileNobodyWaits() throws {
    let found = try attach(
      ["172.17.42.11": .free, "172.17.42.12": .free], range: "172.17.42.10-172.17.42.13")
    // One that nobody has asked for lately is passed over, not waited for.
    #expect(found.given == "172.17.42.11" && found.questions == [])
    #expect(found.prospects == ["172.17.42.10", "172.17.42.12", "172.17.42.13"])
  }

  @Test func theirNumberIsBounded() throws {
    let found = try attach(["172.17.42.1": .free], range: "172.17.42.1-172.17.42.200")
    #expect(found.given == "172.17.42.1" && found.prospects.count == 32)
    #expect(found.prospects.first == "172.17.42.2" && found.prospects.last == "172.17.42.33")
  }

  @Test func whatIsNotKnownIsWaitedFor() throws {
    let found = try attach([:], range: "172.17.42.10-172.17.42.12")
    #expect(found.questions.count == 3 && found.prospects == [])
  }
}
