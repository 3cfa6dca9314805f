private import OVXControl

/// libFuzzer's door to the grammar of columns and values, as it is typed behind `set`, `find` and
/// their like.
///
/// Each line is a command, its words separated by `|`: a verb, a table, a record, and what the verb
/// takes.
///
/// Findings are a trap, a command that fails and has changed something, a state that was accepted
/// and should not have been, and a value that is read otherwise than it is printed.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzValues(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  var input = unsafe Input(start, count)
  let text = String(decoding: input.takeRest(), as: UTF8.self)
  var configuration = Bench.configuration
  var word = ""
  for line in text.unicodeScalars.split(separator: "\n").prefix(8) {
    let words = line.split(separator: "|", omittingEmptySubsequences: false).map(String.init)
    let before = configuration
    do throws(ControlError) {
      guard let command = try command(words) else { continue }
      _ = try Transaction.execute([command], on: &configuration, live: Bench.live)
    } catch {
      guard configuration == before else { finding("Half applied, in spite of: \(error)") }
      check(error)
    }
    word = words.last ?? ""
  }
  if configuration != Bench.configuration {
    Bench.check(configuration)
    checkKeys(of: configuration)
  }
  checkText(word)
  return 0
}

private func command(_ words: [String]) throws(ControlError) -> Command? {
  guard words.count >= 3 else { return nil }
  let (table, record, rest) = (words[1], words[2], Array(words[3...]))
  switch words[0] {
  case "set":
    return .set(table: table, record: record, settings: try settings(rest), ifExists: false)
  case "add", "remove":
    guard let column = rest.first else { return nil }
    let values = Array(rest.dropFirst())
    return words[0] == "add"
      ? .add(table: table, record: record, column: column, values: values, ifExists: false)
      : .remove(table: table, record: record, column: column, values: values, ifExists: false)
  case "clear": return .clear(table: table, record: record, columns: rest, ifExists: false)
  case "get": return .get(table: table, record: record, columns: rest, ifExists: false)
  case "list": return .list(table: table, records: [record], columns: rest, ifExists: true)
  case "find":
    return .find(table: table, conditions: try conditions(rest), columns: [])
  case "wait-until":
    return .waitUntil(table: table, record: record, conditions: try conditions(rest))
  case "add-port":
    return .addPort(bridge: table, port: record, settings: try settings(rest), mayExist: true)
  case "attach":
    var settings = try settings(rest)
    let attachment = try Configuration.Attachment(
      target: table, interface: record, takingFrom: &settings)
    return .attach(bridge: "br0", attachment: attachment, settings: settings, mayExist: true)
  default: return nil
  }
}

private func settings(_ words: [String]) throws(ControlError) -> [Setting] {
  var settings: [Setting] = []
  for word in words { settings.append(try Setting(parsing: word)) }
  return settings
}

private func conditions(_ words: [String]) throws(ControlError) -> [Condition] {
  var conditions: [Condition] = []
  for word in words { conditions.append(try Condition(parsing: word)) }
  return conditions
}

/// Every entry of a map is found, got, set and removed by its key as it is printed.
private func checkKeys(of configuration: Configuration) {
  for (name, bridge) in configuration.bridges {
    for (key, value) in bridge.externalIDs {
      let column = "external_ids:\(Atom.text(key))"
      let entry = "\(column)=\(Atom.text(value))"
      do throws(ControlError) {
        var same = configuration
        let setting = try Setting(parsing: entry)
        let condition = try Condition(parsing: entry)
        guard setting.key == key, condition.key == key else {
          finding("The key is read otherwise: \(entry)")
        }
        let transaction = try Transaction.execute(
          [
            .set(table: "Bridge", record: name, settings: [setting], ifExists: false),
            .get(table: "Bridge", record: name, columns: [column], ifExists: false),
            .waitUntil(table: "Bridge", record: name, conditions: [condition]),
          ], on: &same, live: Bench.live)
        guard same == configuration,
          transaction.replies[1] == .values([.scalar(.text(value))])
        else { finding("The value is read otherwise: \(entry)") }
        _ = try Transaction.execute(
          [
            .remove(
              table: "Bridge", record: name, column: "external_ids",
              values: ["\(Atom.text(key))"], ifExists: false)
          ], on: &same, live: Bench.live)
        guard same.bridges[name]?.externalIDs[key] == nil else {
          finding("The entry is still there: \(entry)")
        }
      } catch {
        finding("\(entry): \(error)")
      }
    }
  }
}

/// Any text at all comes back as the value of a key.
private func checkText(_ text: String) {
  var configuration = Bench.configuration
  guard text.utf8.count <= 255 else { return }
  configuration.bridges["br0"]?.externalIDs = [text: text]
  checkKeys(of: configuration)
}
