import OVXDatapath
import Testing

@testable import OVXControl
@testable import ovx_ctl

/// What the maker of gateways tells the switch: its bounds, and where it is seen.
@Suite struct GatewayReportTests {
  @Test func tooMuchIsRefused() throws {
    func refusal(_ report: GatewayReport) -> String {
      do throws(ControlError) { try report.validate() } catch { return error.message }
      return ""
    }
    let long = String(repeating: "x", count: GatewayReport.sentenceLimit)
    var report = GatewayReport(
      faults: Array(repeating: long, count: GatewayReport.faultLimit),
      gateways: ["red": .init(isInForce: true, faults: [long])])
    #expect(refusal(report) == "")
    report.faults.append("x")
    #expect(refusal(report).contains("at most 8 sentences"))
    report.faults = [long + "x"]
    #expect(refusal(report).contains("at most 640 bytes"))
    report.faults = []
    report.gateways["red"]?.faults = Array(repeating: "x", count: 9)
    #expect(refusal(report).contains("at most 8 sentences"))
    report.gateways = [:]
    for number in 0..<GatewayReport.gatewayLimit {
      report.gateways["n\(number)"] = .init(isInForce: false, faults: ["fault \(number)"])
    }
    #expect(refusal(report) == "")
    report.gateways["one more"] = .init(isInForce: false)
    #expect(refusal(report).contains("at most 4096 gateways"))
    report.gateways = report.gateways.mapValues { _ in .init(isInForce: true, faults: [long]) }
    report.gateways["one more"] = nil
    #expect(refusal(report).contains("together"))
    // Whatever there is to be told, what is sent is taken, in one request.
    report.gateways["one more"] = .init(isInForce: false)
    report.faults = [String(repeating: "ü\"", count: 5000)] + Array(repeating: "x", count: 50)
    let bounded = report.bounded
    #expect(refusal(bounded) == "")
    #expect(bounded.faults.count == 8 && bounded.faults[0].hasSuffix("…"))
    #expect(
      try Request(commands: [.gateways(bounded)]).messageBytes().count
        < MessageDecoder<Request>.byteLimit)
    #expect(bounded.bounded == bounded)
    let small = GatewayReport(faults: ["a"], gateways: ["red": .init(isInForce: true)])
    #expect(small.bounded == small)
  }

  @Test func itIsInTheColumnsAndNowhereElse() throws {
    var bench = try Workbench("add-net red vni=7 subnet=10.0.0.0/24 gateway=10.0.0.1")
    let network = try #require(bench.configuration.networks["red"])
    func row(_ state: GatewayState?) throws -> [String: Datum] {
      try #require(
        bench.configuration.row(
          "red", in: .network,
          LiveState(deviceExists: { _ in true }, gateway: { $0 == "red" ? state : nil })))
    }
    #expect(try row(nil)["error"] == .scalar(nil))
    let down = try row(GatewayState(.down, faults: ["it is away", "and ill"]))
    #expect(down["error"] == .scalar(.text("it is away")))
    guard case .map(let status)? = down["status"] else { return #expect(Bool(false)) }
    #expect(status["gateway"] == .text("down"))
    #expect(try row(GatewayState(.up))["error"] == .scalar(nil))
    #expect(bench.configuration.networks["red"] == network)
    #expect(bench.refusal("set network red error=x").contains("error"))
  }

  @Test func netShowHasAllSentences() throws {
    let bench = try Workbench("add-net red vni=7 subnet=10.0.0.0/24 gateway=10.0.0.1")
    let network = try #require(bench.configuration.networks["red"])
    var description = NetworkDescription(network, in: bench.configuration)
    description.gatewayState = .down
    description.gatewayErrors = ["it is away", "and ill"]
    description.error = "it is away"
    #expect(
      description.tree.contains(
        """
            gateway state: down
        """))
    #expect(description.tree.contains("    error: \"it is away\"\n    error: \"and ill\"\n"))
    description.gatewayState = .up
    #expect(!description.tree.contains("gateway state"))
  }
}
