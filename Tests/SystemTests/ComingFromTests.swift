import Foundation
import Testing

extension SystemTests {
  /// The tables of the article that leads from other programs to ovx-ctl: every line of them is
  /// typed.
  @Suite struct ComingFromTests {
    /// A line of a table, in the order in which they stand.
    private struct Line {
      var theirs: String
      var ours: String
      var check: String
      var expected: String
    }

    private static func lines() throws -> [Line] {
      let article = Lab.packageRoot.appendingPathComponent(
        "Sources/ovx-ctl/ovx-ctl.docc/ComingFrom.md")
      return try String(contentsOf: article, encoding: .utf8).split(separator: "\n")
        .filter { $0.hasPrefix("| ") }
        .compactMap { line in
          // A bar inside of a cell has a backslash in front.
          let cells = line.replacing("\\|", with: "\u{1}").split(separator: "|").map {
            $0.replacing("\u{1}", with: "|").trimmingCharacters(in: .whitespaces)
          }
          if cells.last == "to be seen by" { return nil }
          let check = try #require(
            cells.last?.wholeMatch(of: /`(.+)` → `(.+)`/), "not of the form `…` → `…`: \(line)")
          let ours = try #require(
            cells[1].wholeMatch(of: /`(.+)`/), "the second cell is no command: \(line)")
          return Line(
            theirs: cells[0], ours: String(ours.1), check: String(check.1),
            expected: String(check.2))
        }
    }

    @Test func everyLineDoesWhatItSays() throws {
      try Lab.run { lab in
        let host = try lab.twoHosts().0
        try lab.daemon(on: host)
        let container = try lab.namespace("web")
        try host.must(
          """
          for name in veth1 veth2 veth3; do
            ip link add $name mtu 1400 type veth peer name $name-c
            ip link set $name up && ip link set $name-c up
          done
          """)
        // The article's container has a plain name; the port's is cut to what fits.
        func local(_ line: String) -> String {
          line.replacing("@web", with: "@\(container.name.prefix(15))")
            .replacing(" web ", with: " \(container.name) ")
        }
        let lines = try Self.lines()
        #expect(lines.count > 70)
        for line in lines {
          let output = try host.run(local(line.ours))
          #expect(
            output.succeeded && output.standardError.isEmpty,
            "\(line.theirs): \(line.ours): \(output)")
          // An answer of "no" may be what is looked for.
          let seen = try host.run("set +e; " + local(line.check))
          #expect(
            seen.standardOutput.contains(local(line.expected)),
            "\(line.ours), then \(line.check): \(line.expected)? \(seen)")
        }
      }
    }
  }
}
