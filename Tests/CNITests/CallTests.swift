import Testing

@testable import ovx_cni

@Suite struct CallTests {
  private let whole = [
    "CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/c1",
    "CNI_IFNAME": "eth0", "CNI_PATH": "/opt/cni/bin:/usr/lib/cni",
  ]

  @Test func whatIsRead() throws {
    var environment = whole
    environment["CNI_ARGS"] =
      "IgnoreUnknown=1;K8S_POD_NAME=web;mac=02:00:00:00:00:01;IP=10.0.0.5,fd00::5;X=1"
    environment["OVX_RUNDIR"] = "/run/ovx1"
    let call = try Call(environment: environment)
    #expect(call.command == .add && call.containerID == "c1" && call.interface == "eth0")
    #expect(call.namespace == "/run/netns/c1" && call.runDirectory == "/run/ovx1")
    #expect(call.searchPath == ["/opt/cni/bin", "/usr/lib/cni"])
    #expect(call.arguments.mac == "02:00:00:00:00:01")
    #expect(call.arguments.addresses == ["10.0.0.5", "fd00::5"])
  }

  /// The specification wants the names of all variables that are wrong.
  @Test func whatIsMissingIsNamed() {
    for (verb, names) in [
      ("ADD", ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]),
      ("CHECK", ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]),
      ("DEL", ["CNI_CONTAINERID", "CNI_IFNAME"]),
    ] {
      let error = failure { _ = try Call(environment: ["CNI_COMMAND": verb]) }
      #expect(error.code == 4)
      for name in names { #expect(error.message.contains(name), "\(error.message)") }
      for name in names {
        var environment = whole
        environment["CNI_COMMAND"] = verb
        environment[name] = ""
        let error = failure { _ = try Call(environment: environment) }
        #expect(error.code == 4 && error.message.hasPrefix(name), "\(error.message)")
      }
    }
    for command in ["", "add", "PLUGH"] {
      let error = failure { _ = try Call(environment: ["CNI_COMMAND": command]) }
      #expect(error.code == 4 && error.message.contains("CNI_COMMAND"))
    }
  }

  @Test func whatIsWrongIsNamed() {
    for (name, value) in [
      ("CNI_CONTAINERID", "../x"), ("CNI_CONTAINERID", "-c"), ("CNI_CONTAINERID", "a b"),
      ("CNI_CONTAINERID", String(repeating: "x", count: 5000)),
      ("CNI_IFNAME", "a/b"), ("CNI_IFNAME", ".."), ("CNI_IFNAME", "a:b"), ("CNI_IFNAME", "e th"),
      ("CNI_IFNAME", "abcdefghijklmnop"), ("CNI_IFNAME", "e\u{1}"),
      ("CNI_NETNS", "web"), ("CNI_NETNS", "run/netns/web"), ("CNI_NETNS", "/proc/self/ns/net"),
      ("CNI_ARGS", "MAC"), ("CNI_ARGS", "=1"), ("CNI_ARGS", "NOBODY=1"),
    ] {
      var environment = whole
      environment[name] = value
      let error = failure { _ = try Call(environment: environment) }
      #expect(error.code == 4 && error.message.contains(name), "\(name)=\(value): \(error.message)")
      #expect(error.message.utf8.count < 1000)
    }
  }

  /// DEL takes what it is given for a namespace, and STATUS, GC and VERSION need no container.
  @Test func whatIsNotNeeded() throws {
    for namespace in ["", "gone", "/proc/self/ns/net"] {
      var environment = whole
      environment["CNI_COMMAND"] = "DEL"
      environment["CNI_NETNS"] = namespace
      #expect(try Call(environment: environment).containerID == "c1")
    }
    for verb in ["STATUS", "GC", "VERSION"] {
      #expect(try Call(environment: ["CNI_COMMAND": verb]).command.rawValue == verb)
    }
    // Podman sets all others to this.
    var environment = whole.mapValues { _ in "dummy" }
    environment["CNI_COMMAND"] = "VERSION"
    environment["CNI_ARGS"] = "dummy"
    #expect(try Call(environment: environment).command == .version)
  }
}
