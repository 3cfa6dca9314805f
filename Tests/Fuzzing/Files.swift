private import Foundation
internal import OVXControl

/// libFuzzer's door to `apply -f`: the bytes of a file, on to the transaction that they stand for.
///
/// Compiled together with the sources of ovx-ctl that read and write files. Findings are a trap, a
/// parser that does not end, a sentence that does not name the file, a file that is taken and means
/// a state that could not be put in force, and one that means something else once it has been
/// exported.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzFiles(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  var input = unsafe Input(start, count)
  let declared: Configuration
  do throws(ControlError) {
    declared = try ConfigurationFile(name: "net.yaml", bytes: input.takeRest()).configuration
  } catch {
    check(error)
    guard error.message.hasPrefix("net.yaml:") else { finding("Nameless: \(error)") }
    return 0
  }
  do throws(ControlError) {
    // What a file need not say of its networks.
    var completed = declared
    try completed.completeNetworks(after: Configuration())
    try completed.validate()
    let file = ExportedFile(configuration: completed)
    for text in [try file.yaml, try file.json] {
      var again = try ConfigurationFile(name: "export", bytes: Array(text.utf8)).configuration
      try again.completeNetworks(after: Configuration())
      guard again == completed else { finding("The file means something else: \(text)") }
    }
  } catch {
    finding("It was taken, but: \(error)")
  }
  var configuration = Bench.configuration
  do throws(ControlError) {
    _ = try Transaction.execute(
      [.apply(declared, declaresSwitch: true)], on: &configuration, live: Bench.live)
    let second = try Transaction.execute(
      [.apply(declared, declaresSwitch: true)], on: &configuration, live: Bench.live)
    guard second.replies == [.changes([])] else { finding("Applied twice it changes something.") }
  } catch {
    // The container of the bench may be in the way, or a name that it has.
    check(error)
    guard configuration == Bench.configuration else { finding("Half applied: \(error)") }
  }
  return 0
}

/// Stands in for ovx-ctl's own, which comes with its whole command line.
func distance(_ left: String, _ right: String) -> Int { abs(left.utf8.count - right.utf8.count) }

/// Stands in for ovx-ctl's own, for the same reason.
enum Output {
  static func encode(_ value: some Encodable) throws(ControlError) -> String {
    guard let data = try? JSONEncoder().encode(value) else { finding("no JSON of \(value)") }
    return String(decoding: data, as: UTF8.self)
  }
}
