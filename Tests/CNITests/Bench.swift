import OVXControl
import OVXDatapath
import Testing

@testable import ovx_cni

/// A value of JSON, read from a text that is known to be one.
func json(_ text: String) -> JSON {
  do {
    return try JSON(parsing: Array(text.utf8), as: "a test's JSON")
  } catch {
    Issue.record("\(text): \(error.message)")
    return .null
  }
}

/// A configuration with the given members beside a version and a name.
func configuration(_ members: String = "", version: String = "1.1.0") throws -> NetworkConfiguration
{
  try NetworkConfiguration(
    json(
      "{\"cniVersion\": \"\(version)\", \"name\": \"red\", \"type\": \"ovx-cni\""
        + (members.isEmpty ? "" : ", " + members) + "}"), runDirectory: nil)
}

/// The error that something throws; fails the test where it throws none.
func failure(
  sourceLocation: SourceLocation = #_sourceLocation, _ body: () throws -> Void
) -> PluginError {
  do {
    try body()
  } catch let error as PluginError {
    return error
  } catch {
    Issue.record("not a PluginError: \(error)", sourceLocation: sourceLocation)
    return PluginError(.refused, "")
  }
  Issue.record("nothing was refused", sourceLocation: sourceLocation)
  return PluginError(.refused, "")
}

/// Answers a call without a daemon: its run directory is one that does not exist.
func answer(_ environment: [String: String], _ input: String) -> Plugin.Answer {
  var environment = environment
  environment["OVX_RUNDIR"] = "/nonexistent/ovx"
  return Plugin(environment: environment).answer { Array(input.utf8) }
}
