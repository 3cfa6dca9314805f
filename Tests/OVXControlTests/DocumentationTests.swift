import Foundation
import Testing

/// The pages of DocC: the symbols that they name are there.
@Suite struct DocumentationTests {
  private static let sources = packageRoot.appendingPathComponent("Sources")

  private static func files(below folder: URL, _ suffix: String) throws -> [String] {
    let paths = FileManager.default.enumerator(atPath: folder.path)?.compactMap { $0 as? String }
    return try (paths ?? []).filter { $0.hasSuffix(suffix) }.sorted().map {
      try String(contentsOf: folder.appendingPathComponent($0), encoding: .utf8)
    }
  }

  /// The names that a module's sources declare.
  private static func declarations(in module: URL) throws -> Set<Substring> {
    let declaration =
      /\b(?:struct|class|enum|protocol|actor|typealias|func|var|let|case) +([A-Za-z_]\w*)/
    return try files(below: module, ".swift").reduce(into: []) { names, text in
      for match in text.matches(of: declaration) { names.insert(match.1) }
    }
  }

  @Test(arguments: ["OVXDatapath", "OVXLinux", "OVXControl", "OVXHost"])
  func symbolsExist(module: String) throws {
    let folder = Self.sources.appendingPathComponent(module)
    let names = try Self.declarations(in: folder)
    let pages = try Self.files(below: folder.appendingPathComponent("\(module).docc"), ".md")
    #expect(pages.contains { $0.hasPrefix("# ``\(module)``\n") }, "there is no landing page")
    var count = 0
    // Between fences is code.
    let prose = pages.flatMap { page in
      page.split(separator: "```", omittingEmptySubsequences: false).enumerated()
        .filter { $0.offset.isMultiple(of: 2) }.map(\.element)
    }
    for link in prose.flatMap({ $0.matches(of: /``([\w\/():]+)``/) }) where link.1 != module {
      count += 1
      for part in link.1.split(separator: "/") {
        let name = part.prefix { $0 != "(" }
        let isDeclared = names.contains(name)
        #expect(isDeclared, "\(module) declares no \(name), which \(link.0) names")
        for label in part.dropFirst(name.count + 1).dropLast().split(separator: ":") {
          let isThere = try Self.files(below: folder, ".swift").contains {
            try $0.contains(Regex("func \(name)\\([^{]*\\b\(label)\\b"))
          }
          #expect(isThere, "\(module) has no \(part)")
        }
      }
    }
    #expect(count > 10)
  }
}
