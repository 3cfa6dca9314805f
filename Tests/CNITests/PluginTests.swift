import Foundation
import OVXSimulation
import Testing

@testable import ovx_cni

@Suite struct PluginTests {
  private let container = [
    "CNI_CONTAINERID": "c1", "CNI_NETNS": "/nonexistent/ns", "CNI_IFNAME": "eth0",
    "CNI_PATH": "/nonexistent/bin",
  ]

  private func call(_ verb: String, _ input: String) -> Plugin.Answer {
    answer(container.merging(["CNI_COMMAND": verb]) { $1 }, input)
  }

  @Test func versionIsAnsweredWhateverElseIsSaid() {
    for (input, version) in [
      ("{\"cniVersion\": \"1.0.0\"}", "1.0.0"), ("{\"cniVersion\": \"9.0.0\"}", "1.1.0"),
      ("{}", "1.1.0"),
    ] {
      let answer = call("VERSION", input)
      #expect(answer.status == 0)
      #expect(answer.output?["cniVersion"]?.textValue == version)
      let supported = answer.output?["supportedVersions"]?.arrayValue?.compactMap(\.textValue)
      #expect(supported == ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
    }
    #expect(call("VERSION", "[]").output?["code"] == .integer(6))
  }

  @Test func errorsHaveTheShapeOfTheSpecification() {
    let answer = call("ADD", "{\"cniVersion\": \"0.4.0\", \"name\": \"red\", \"tag\": -1}")
    #expect(answer.status == 1)
    #expect(answer.output?["cniVersion"]?.textValue == "0.4.0")
    #expect(answer.output?["code"] == .integer(7))
    #expect(answer.output?["msg"]?.textValue?.contains("tag") == true)
    // Of a version that is not spoken, an error is in the latest.
    let foreign = call("ADD", "{\"cniVersion\": \"9.0.0\", \"name\": \"red\"}")
    #expect(foreign.output?["cniVersion"]?.textValue == "1.1.0")
    #expect(foreign.output?["code"] == .integer(1))
  }

  @Test func operationsOfLaterVersions() {
    for (verb, version) in [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0")] {
      let answer = call(verb, "{\"cniVersion\": \"\(version)\", \"name\": \"red\"}")
      #expect(answer.output?["code"] == .integer(1), "\(verb)")
    }
  }

  @Test func withoutADaemon() {
    let input = "{\"cniVersion\": \"1.1.0\", \"name\": \"red\"}"
    #expect(call("ADD", input).output?["code"] == .integer(3))
    for (verb, code) in [("DEL", 11), ("STATUS", 51)] {
      let answer = call(verb, input)
      #expect(answer.output?["code"] == .integer(code), "\(verb)")
      let message = answer.output?["msg"]?.textValue ?? ""
      #expect(message.contains("/nonexistent/ovx/vswitchd.sock"), "\(message)")
    }
    #expect(call("GC", input).output?["code"] == .integer(7))
    let valid = "{\"cniVersion\": \"1.1.0\", \"name\": \"red\", \"cni.dev/valid-attachments\": []}"
    #expect(call("GC", valid).output?["code"] == .integer(11))
    #expect(call("CHECK", input).output?["code"] == .integer(7))
  }

  @Test func anIPAMPluginThatIsNotThere() {
    let input =
      "{\"cniVersion\": \"1.1.0\", \"name\": \"red\", \"ipam\": {\"type\": \"host-local\"}}"
    let answer = call("ADD", input)
    #expect(answer.output?["code"] == .integer(7))
    #expect(answer.output?["msg"]?.textValue?.contains("/nonexistent/bin") == true)
    let nowhere = callWithoutPath(input)
    #expect(nowhere.output?["code"] == .integer(4))
    #expect(nowhere.output?["msg"]?.textValue?.contains("CNI_PATH") == true)
  }

  private func callWithoutPath(_ input: String) -> Plugin.Answer {
    answer(container.merging(["CNI_COMMAND": "ADD", "CNI_PATH": ""]) { $1 }, input)
  }

  /// Whatever stands on standard input is answered, by an error that can be read.
  @Test func hostileInput() {
    let whole = """
      {"cniVersion": "1.1.0", "name": "red", "network": "red", "mtu": 1400, "trunk": [1, "2-3"], "prevResult":
      {"interfaces": [{"name": "eth0"}]}, "runtimeConfig": {"ips": ["10.0.0.1/8"], "mac": "02:00:00:00:00:01"},
      "ipam": {"type": "x"}, "cni.dev/valid-attachments": [{"containerID": "c", "ifname": "e"}]}
      """
    let fixed = [
      "", " ", "{", "nul", "\u{0}", "{\"name\": \"\\u0000\"}",
      String(repeating: "[", count: 100_000), String(repeating: "{\"a\":", count: 5000),
      "{\"cniVersion\": 1e400}", "\"\\ud800\"",
    ]
    for input in fixed { #expect(throws: Never.self) { try checkRefusal(input) } }
    let rounds = PropertyRounds(
      "hostile input of ovx-cni", 300, environment: ProcessInfo.processInfo.environment)
    let failure = rounds.firstFailure { seed in
      var random = SeededRandom(seed: seed)
      var bytes = Array(whole.utf8)
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        let place = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<3, using: &random) {
        case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
        case 1: bytes.remove(at: place)
        default: bytes.insert(contentsOf: bytes[place...].prefix(8), at: place)
        }
      }
      try checkRefusal(String(decoding: bytes, as: UTF8.self))
    }
    #expect(failure == nil, "\(failure ?? "")")
  }

  /// Throws where an input is not answered by an error that can be read.
  private func checkRefusal(_ input: String) throws {
    for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
      let answer = call(verb, input)
      guard answer.status == 1, answer.output?["code"]?.integerValue != nil,
        answer.output?["msg"]?.textValue?.isEmpty == false,
        (answer.output?.text.utf8.count ?? .max) < 20_000
      else { throw Discrepancy("\(verb) of \(input) gives \(answer)") }
    }
  }

  @Test func jsonIsPassedOnAsItIs() {
    let text =
      "{\"a\":[1,-2,1.5,true,false,null,\"x\\n\\\"/é\"],\"b\":{\"c\":9007199254740993},\"d\":[],\"e\":{}}"
    #expect(json(text).text == text)
    #expect(json(json(text).text) == json(text))
  }
}
