import Foundation
import Testing

extension SystemTests {
  /// The pages of the guide: their lines are typed, and what is shown there comes out.
  @Suite struct ExamplesTests {
    private static let examples = Lab.packageRoot.appendingPathComponent("deploy/examples")

    private static func names(in directory: String) -> [String] {
      let names = try? FileManager.default.contentsOfDirectory(
        atPath: Lab.packageRoot.appendingPathComponent(directory).path)
      return (names ?? []).sorted()
    }

    private func run(_ program: String, _ arguments: [String] = []) throws -> Output {
      try Command(
        [Self.examples.appendingPathComponent(program).path] + arguments,
        environment: ["OVX_BIN": "\(Lab.binaries)", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"]
      ).finish(seconds: 180)
    }

    @Test(arguments: names(in: "deploy/examples").filter { $0 != "run" })
    func example(_ name: String) throws {
      let output = try run(name)
      #expect(
        output.succeeded, "\(name):\n\(output.standardOutput.suffix(3000))\(output.standardError)")
      // What a daemon warns of, a reader would see.
      #expect(!output.standardOutput.contains(/host[12] log:/), "\(output.standardOutput)")
    }

    @Test func eachPageIsAnExample() throws {
      let pages = Self.names(in: "docs/recipes").map { $0.replacing(".md", with: "") }
      #expect(pages == Self.names(in: "deploy/examples").filter { $0 != "run" })
      let index = try String(
        contentsOf: Lab.packageRoot.appendingPathComponent("docs/README.md"), encoding: .utf8)
      for page in pages { #expect(index.contains("(recipes/\(page).md)"), "\(page)") }
      #expect(pages.count > 4)
    }

    /// A page that is wrong is found to be.
    @Test(arguments: [
      ("host1# echo yes\nno", "this line is not among them: no"),
      ("host1# false", "this has failed with 1, and the page does not say so"),
      ("host1# ls /nowhere\nls: something else", "this has failed with 2"),
      ("web# true", "there is no namespace web"),
    ])
    func wrongPage(_ lines: String, _ sentence: String) throws {
      try Lab.run { lab in
        let page = lab.directory.appendingPathComponent("page.md")
        try "```console\n\(lines)\n```\n".write(to: page, atomically: true, encoding: .utf8)
        let output = try run("run", [page.path])
        #expect(!output.succeeded)
        #expect((output.standardOutput + output.standardError).contains(sentence), "\(output)")
      }
    }
  }
}
