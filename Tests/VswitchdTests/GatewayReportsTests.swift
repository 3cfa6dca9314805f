import Foundation
import Logging
import OVXControl
import OVXStorage
import OVXDatapath
import SystemPackage
import Testing

@testable import ovx_vswitchd

/// What the switch makes of what it is told of gateways, and of that it is not told any more.
@Suite struct GatewayReportsTests {
  private final class Scene {
    let directory = FilePath(
      FileManager.default.temporaryDirectory.appendingPathComponent("ovx-\(UUID())").path)
    let events: EventHistory
    let reports = GatewayReports()
    var networks: [String: Configuration.Network] = [:]

    init() throws {
      let database = try Database(path: directory.appending("conf.db"))
      events = EventHistory(
        database, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
      for (index, name) in ["red", "blue", "plain"].enumerated() {
        var network = Configuration.Network(
          name: name, vni: try #require(VNI(rawValue: UInt32(index + 1))), bridge: "br0",
          tag: try #require(VLANID(rawValue: UInt16(index + 1))))
        network.subnets = [try #require(IPPrefix("10.0.0.0/24"))]
        if name != "plain" { network.gateways = [try #require(IPAddress("10.0.0.1"))] }
        networks[name] = network
      }
    }
    deinit { try? FileManager.default.removeItem(atPath: directory.string) }

    func take(_ report: GatewayReport, from client: UInt64 = 1) {
      reports.take(report, from: client, networks: networks, events: events)
    }
    func state(_ name: String, hasPort: Bool = true) -> GatewayState? {
      networks[name].flatMap { reports.state(of: $0, hasPort: hasPort) }
    }
    func expire(_ now: Int64) -> Bool {
      reports.expire(now: now, networks: networks, events: events)
    }
    var texts: [String] { events.events.map(\.text) }
  }

  @Test func fromStartToEnd() throws {
    let scene = try Scene()
    // Nobody can have told of it yet.
    #expect(scene.state("red") == nil && scene.state("plain") == nil)
    let due = try #require(scene.reports.nextWork)
    #expect(!scene.expire(due - 1) && scene.expire(due) && !scene.expire(.max))
    #expect(scene.reports.nextWork == nil)
    #expect(scene.state("red")?.condition == .unattended && scene.state("plain") == nil)
    #expect(scene.state("red", hasPort: false)?.condition == .down)
    #expect(scene.texts == ["no ovx-gatewayd runs; 2 networks want a gateway here"])

    scene.take(
      GatewayReport(faults: ["no way out"], gateways: ["red": .init(isInForce: true)]), from: 7)
    #expect(scene.reports.teller == 7)
    #expect(scene.state("red") == GatewayState(.up, faults: ["no way out"]))
    #expect(scene.state("blue") == GatewayState(.down, faults: ["no way out"]))
    scene.take(
      GatewayReport(gateways: [
        "red": .init(isInForce: true), "blue": .init(isInForce: false, faults: ["taken"]),
        "gone": .init(isInForce: false, faults: ["nobody asks for it"]),
      ]), from: 8)
    #expect(scene.reports.teller == 8 && scene.state("red") == GatewayState(.up))
    #expect(scene.state("blue") == GatewayState(.down, faults: ["taken"]))
    // The same again is no news.
    let count = scene.texts.count
    scene.take(GatewayReport(gateways: ["blue": .init(isInForce: false, faults: ["taken"])]))
    #expect(scene.texts.count == count)
    #expect(
      Array(scene.texts.dropFirst()) == [
        "ovx-gatewayd makes gateways again", "gateways: no way out",
        "gateways: nothing is wrong any more", "gateway of network blue: taken",
      ])

    scene.reports.end(networks: scene.networks, events: scene.events)
    #expect(scene.reports.teller == nil && scene.state("red")?.condition == .unattended)
    #expect(scene.texts.last == "ovx-gatewayd has ended; 2 networks want a gateway here")
    scene.networks["red"]?.gatewayMode = .remote
    #expect(scene.state("red") == nil)
  }

  @Test func whoeverTellsItIsNotTrusted() throws {
    let scene = try Scene()
    scene.take(
      GatewayReport(
        faults: ["a\u{1B}[2Jb\n"], gateways: ["red": .init(isInForce: true, faults: ["\u{7}"])]))
    #expect(scene.state("red")?.faults == ["?", "a?[2Jb?"])
    // The history of others is not washed away.
    for number in 0..<500 {
      let name = "n\(number)"
      var network = try #require(scene.networks["red"])
      network.name = name
      scene.networks[name] = network
    }
    let faults = scene.networks.mapValues { _ in
      GatewayReport.Gateway(isInForce: false, faults: ["away"])
    }
    scene.take(GatewayReport(gateways: faults))
    #expect(scene.texts.count < 25)
    #expect(scene.texts.last?.contains("more networks have changed") == true)
  }
}
