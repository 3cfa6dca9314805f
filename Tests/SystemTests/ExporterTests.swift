import Foundation
import Testing

extension SystemTests {
  /// What is shown to Prometheus and to a browser.
  @Suite struct ExporterTests {
    /// Asks the exporter of a host; the answer's head and its body.
    private func get(
      _ path: String, on host: Namespace, as name: String = "localhost", _ headers: String = ""
    ) throws -> (head: String, body: String) {
      let request =
        "GET \(path) HTTP/1.1\\r\\nHost: \(name)\\r\\n\(headers)Connection: close\\r\\n\\r\\n"
      let answer = try host.must("printf '\(request)' | socat -t 10 - TCP:127.0.0.1:9475")
      let parts = answer.replacing("\r\n", with: "\n").split(separator: "\n\n", maxSplits: 1)
      return (String(parts.first ?? ""), String(parts.count > 1 ? parts[1] : ""))
    }

    @Test func metricsAndPage() throws {
      try Lab.run { lab in
        let (host1, _) = try lab.twoHosts()
        let daemon = try lab.daemon(on: host1)
        try host1.ctl("set switch . local_ip=192.168.5.2 remotes=192.168.5.3")
        try host1.ctl("add-net red vni=100 subnet=172.17.42.0/24")
        let (web, db) = (try lab.namespace("web"), try lab.namespace("db"))
        try host1.ctl("attach red \(web.name) eth0 -- attach red \(db.name) eth0")
        try web.expectPing("172.17.42.3")
        let exporter = try host1.start("exec ovx-exporter --rundir \(host1.rundir)")
        try eventually("the exporter is there") {
          try host1.run("socat -u OPEN:/dev/null TCP:127.0.0.1:9475").succeeded
        }
        let metrics = try get("/metrics", on: host1)
        #expect(metrics.head.contains("text/plain; version=0.0.4"))
        for line in [
          "ovx_up 1", "ovx_network_members{network=\"red\",vni=\"100\"} 2",
          "ovx_remote_up{port=\"vni100\",vni=\"100\",remote=\"192.168.5.3\"} 1",
          "ovx_port_up{bridge=\"br0\",port=\"eth0@\(web.name)\",network=\"red\",type=\"tap\"} 1",
        ] {
          #expect(metrics.body.contains("\n\(line)\n"), "\(line) is not in \(metrics.body)")
        }
        // The judgement of Prometheus's own checker.
        let file = lab.directory.appendingPathComponent("metrics")
        try metrics.body.write(to: file, atomically: true, encoding: .utf8)
        let found = try Command([
          Lab.packageRoot.appendingPathComponent("deploy/find-promtool").path
        ]).finish(seconds: 120)
        let promtool = found.standardOutput.trimmingCharacters(in: .whitespacesAndNewlines)
        let verdict = try Command([
          "sh", "-c", "exec \"$0\" check metrics < \"$1\"", promtool, file.path,
        ]).finish(seconds: 20)
        #expect(verdict.succeeded && verdict.standardError.isEmpty, "\(verdict)")
        let open = try get(
          "/metrics", on: host1, "Accept: application/openmetrics-text; version=1.0.0\\r\\n")
        #expect(open.head.contains("application/openmetrics-text"))
        #expect(open.body.contains("# TYPE ovx_drops counter\n") && open.body.hasSuffix("# EOF\n"))

        let page = try get("/", on: host1)
        #expect(
          page.head.contains("default-src 'none'") && page.body.contains("<title>ovx</title>"))
        #expect(try get("/api/state", on: host1).body.contains("\"name\":\"red\""))
        let places = try get("/api/addresses?find=172.17.42.3", on: host1)
        #expect(places.body.contains("eth0@\(db.name)"), "\(places)")
        let trace = try get("/api/trace?port=eth0@\(web.name)&frame=to%%20172.17.42.3", on: host1)
        #expect(trace.body.contains("eth0@\(db.name)"), "\(trace)")
        let wrong = try get("/api/trace?port=nobody&frame=arp", on: host1)
        #expect(wrong.head.contains("400") && wrong.body.contains("there is no port nobody"))
        // By a name that anybody may give to this address nothing is told but metrics.
        for path in ["/", "/api/state", "/api/addresses?find=1"] {
          #expect(try get(path, on: host1, as: "evil.example").head.contains("403"), "\(path)")
        }
        #expect(try get("/elsewhere", on: host1).head.contains("404"))
        #expect(try get("/readyz", on: host1).head.contains("200"))

        _ = try daemon.stop(SIGTERM)
        try eventually("it is not ready") { try get("/readyz", on: host1).head.contains("503") }
        #expect(try get("/healthz", on: host1).head.contains("200"))
        #expect(try get("/metrics", on: host1).body.contains("ovx_up 0\n"))
        try lab.daemon(on: host1)
        try eventually("it is ready again") { try get("/readyz", on: host1).head.contains("200") }
        exporter.signal(SIGTERM)
        _ = exporter.wait(seconds: 5)
      }
    }

    /// A real Prometheus asks the exporter, and its rules see what goes wrong.
    @Test func prometheusAsks() throws {
      try Lab.run { lab in
        let (host1, _) = try lab.twoHosts()
        let daemon = try lab.daemon(on: host1)
        try host1.ctl("add-br br0")
        let exporter = try host1.start("exec ovx-exporter --rundir \(host1.rundir)")
        let monitoring = Lab.packageRoot.appendingPathComponent("deploy/monitoring")
        var settings = try String(
          contentsOf: monitoring.appendingPathComponent("prometheus.yml"), encoding: .utf8)
        settings = settings.replacing(/targets: .*/, with: "targets: [\"127.0.0.1:9475\"]")
          .replacing("scrape_interval: 15s", with: "scrape_interval: 1s")
          .replacing("ovx.rules.yml", with: monitoring.appendingPathComponent("ovx.rules.yml").path)
        settings = "global: {evaluation_interval: 1s}\n" + settings
        let file = lab.directory.appendingPathComponent("prometheus.yml")
        try settings.write(to: file, atomically: true, encoding: .utf8)
        let found = try Command([
          Lab.packageRoot.appendingPathComponent("deploy/find-promtool").path
        ]).finish(seconds: 120).standardOutput.trimmingCharacters(in: .whitespacesAndNewlines)
        let program = URL(fileURLWithPath: found).deletingLastPathComponent()
          .appendingPathComponent("prometheus").path
        let data = lab.directory.appendingPathComponent("prometheus").path
        let prometheus = try host1.start(
          "exec \(program) --config.file=\(file.path) --storage.tsdb.path=\(data) "
            + "--web.listen-address=127.0.0.1:9090 --log.level=warn")
        func ask(_ path: String) throws -> String {
          try host1.run(
            "printf 'GET \(path) HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n' | socat -t 5 - TCP:127.0.0.1:9090"
          ).standardOutput
        }
        try eventually("it has asked", within: 30) {
          try ask("/api/v1/query?query=ovx_port_up").contains("\"port\":\"br0\"")
        }
        _ = try daemon.stop(SIGTERM)
        try eventually("the alert waits for its time", within: 30) {
          try ask("/api/v1/alerts").contains("OVXDown")
        }
        for process in [prometheus, exporter] {
          process.signal(SIGTERM)
          _ = process.wait(seconds: 10)
        }
      }
    }

    /// The page in a browser, on a desk and on a phone: it shows what is there, and names stay
    /// text.
    @Test(arguments: ["1200x1500", "390x900"])
    func thePage(_ size: String) throws {
      try Lab.run { lab in
        let (host1, _) = try lab.twoHosts()
        try lab.daemon(on: host1)
        try host1.ctl("add-net red vni=100 subnet=172.17.42.0/24 range=172.17.42.31-172.17.42.40")
        try host1.ctl("set switch . local_ip=192.168.5.2 remotes=192.168.5.3")
        let (web, db) = (try lab.namespace("web"), try lab.namespace("db"))
        try host1.ctl("attach red \(web.name) eth0 -- attach red \(db.name) eth0")
        _ = try host1.ctl(["add-port", "br0", "<b>x", "type=tap", "tag=9"])
        try web.expectPing("172.17.42.32")
        let exporter = try host1.start("exec ovx-exporter --rundir \(host1.rundir)")
        let chromium = try Command([
          Lab.packageRoot.appendingPathComponent("deploy/find-chromium").path
        ]).finish(seconds: 180).standardOutput.trimmingCharacters(in: .whitespacesAndNewlines)
        let script = Lab.packageRoot.appendingPathComponent("Tests/SystemTests/Traffic/browse.py")
          .path
        try eventually("the exporter is there") {
          try host1.run("socat -u OPEN:/dev/null TCP:127.0.0.1:9475").succeeded
        }
        // What is not forwarded, ten times in a second, as long as the page is looked at.
        try web.must("ip addr add 172.17.42.99/32 dev lo")
        let abuse = try web.start("exec ping -i 0.1 -I 172.17.42.99 172.17.42.32")
        let told = try host1.must(
          "python3 \(script) \(chromium) http://localhost:9475/ 8 --click --size \(size)")
        let seen = try JSONDecoder().decode(Seen.self, from: Data(told.utf8))
        abuse.signal(SIGTERM)
        _ = abuse.wait(seconds: 5)
        // Chromium gives a request up while the host's addresses change, as br0's own does once.
        let errors = seen.errors.filter { !$0.contains("ERR_NETWORK_CHANGED") }
        #expect(errors.isEmpty && seen.markup == 0, "\(seen)")
        // At least two rates of each of the ports: br0, x, two containers, a tunnel.
        #expect(seen.curves >= 10, "\(seen)")
        // Cells are beside or below each other.
        let text = seen.text.replacing(#/\s+/#, with: " ")
        let lost = try #require(
          text.firstMatch(of: #/eth0@\S+ ip-not-allowed (\d+) (\d+) \/s/#), "\(seen.text)")
        #expect(try #require(Int(lost.1)) > 0 && #require(Int(lost.2)) > 0, "\(lost.0)")
        #expect("\(seen.width)" == size.prefix { $0 != "x" }, "wider than its window: \(seen)")
        // Long names make tables scroll where there are columns; a phone has none.
        #expect(seen.cut == 0 || seen.width > 640, "tables are wider: \(seen)")
        for words in [
          "in service", "172.17.42.0/24", "eth0@\(db.name)", "<b>x", "192.168.5.3",
          "172.17.42.32 br0", "verdict sent by eth0@\(db.name)",
        ] {
          #expect(text.contains(words), "\(words) is not in \(seen.text)")
        }
        exporter.signal(SIGTERM)
        _ = exporter.wait(seconds: 5)
      }
    }

    /// What a browser says of the page.
    private struct Seen: Decodable {
      var text: String
      var markup: Int
      var curves: Int
      var width: Int
      var cut: Int
      var errors: [String]
    }

    /// What a process has had of a processor, in seconds.
    private func seconds(of command: Command) throws -> Double {
      let stat = try String(contentsOfFile: "/proc/\(command.pid)/stat", encoding: .utf8)
      // The program's name, which may have spaces, stands in parentheses before (proc(5)).
      let fields = stat[(stat.lastIndex(of: ")") ?? stat.startIndex)...].split(separator: " ")
      let ticks = fields[12...13].compactMap { Double($0) }.reduce(0, +)
      return ticks / Double(sysconf(Int32(_SC_CLK_TCK)))
    }

    /// Requests that are no requests do it no harm.
    @Test func hostileRequests() throws {
      try Lab.run { lab in
        let (host1, _) = try lab.twoHosts()
        let exporter = try host1.start("exec ovx-exporter --rundir \(host1.rundir)")
        try eventually("the exporter is there") {
          try host1.run("socat -u OPEN:/dev/null TCP:127.0.0.1:9475").succeeded
        }
        for script in [
          "head -c 100000 /dev/urandom", "yes | head -c 3000000", "printf 'GET / HTTP/1.1\\r\\n'",
          "printf 'GET %%ff%%00%%2e%%2e/..//\\\\x HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n'",
          "printf 'POST /api/state HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Length: 99999999999999999999\\r\\n\\r\\n'",
          "printf 'GET /api/trace?port=%%00%%ff&frame=%%22%%0a HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n'",
          "printf 'GET /metrics HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Length: -1\\r\\n\\r\\n'",
        ] {
          _ = try host1.run("\(script) | socat -t 1 - TCP:127.0.0.1:9475 >/dev/null 2>&1")
          #expect(exporter.isRunning, "\(script)")
        }
        #expect(try get("/healthz", on: host1).head.contains("200"))
        // A line that never ends is not waited for, nor is who says nothing: others are answered.
        let endless = try (0..<4).map { _ in
          try host1.start("yes | tr -d '\\n' | socat -u - TCP:127.0.0.1:9475")
        }
        let silent = try (0..<20).map { _ in
          try host1.start("exec socat -u TCP:127.0.0.1:9475 OPEN:/dev/null")
        }
        let before = try seconds(of: exporter)
        for _ in 0..<5 {
          #expect(try get("/healthz", on: host1).head.contains("200"))
          usleep(200_000)
        }
        #expect(try seconds(of: exporter) - before < 0.5)
        for each in endless { #expect(each.wait(seconds: 10) != nil, "it is still listened to") }
        for each in silent {
          each.signal(SIGKILL)
          _ = each.wait(seconds: 5)
        }
        let second = try host1.run("ovx-exporter --rundir \(host1.rundir)")
        #expect(
          !second.succeeded && second.standardError.contains("cannot listen on 127.0.0.1:9475"))
        exporter.signal(SIGTERM)
        _ = exporter.wait(seconds: 5)
      }
    }
  }
}
