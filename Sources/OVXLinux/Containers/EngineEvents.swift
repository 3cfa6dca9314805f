private import Glibc

/// What a program that runs containers announces of them: `docker events`, `podman events`.
package final class EngineEvents {
  private let program: RunningProgram
  /// The rest of the text that has no end of line yet.
  private var rest = Substring()

  private init(_ program: RunningProgram) { self.program = program }

  /// Starts listening to each of the programs that is there.
  ///
  /// - Parameter searchPath: Where to look for them; `nil` for `PATH`.
  /// - Returns: Those that could be started. One that has nobody to listen to ends soon.
  package static func startAll(searchPath: String? = nil) -> [EngineEvents] {
    Container.runtimes.compactMap { name in
      guard let path = find(program: name, in: searchPath ?? Container.defaultSearchPath) else {
        return nil
      }
      let word = name == "podman" ? "{{.Status}}" : "{{.Action}}"
      let arguments = ["events", "--filter", "type=container", "--format", word]
      return (try? RunningProgram(path, arguments)).map { EngineEvents($0) }
    }
  }

  /// To be polled for `POLLIN`; -1 once it has ended.
  package var rawValue: Int32 { program.rawValue }

  package var hasEnded: Bool { program.hasEnded }

  /// Takes in what was announced.
  ///
  /// - Returns: Whether containers may have come or gone.
  package func takeNews() -> Bool {
    var lines = (rest + program.takeOutput()).split(
      separator: "\n", omittingEmptySubsequences: false)
    rest = (lines.popLast() ?? "").suffix(256)
    // Health checks are commands that are run in a container: "exec_start: ...", every few seconds.
    return lines.contains { line in
      ["start", "die", "stop", "destroy", "remove", "rename"].contains { line.hasPrefix($0) }
    }
  }

  package func stop() { program.stop() }
}
