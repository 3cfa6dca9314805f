import Foundation
import Testing

extension SystemTests {
  /// What shells offer when the tabulator is pressed, by the scripts that
  /// `--generate-completion-script` prints.
  @Suite struct CompletionTests {
    /// Completes the last word as bash does: by the script's function, with the variables that bash
    /// gives it.
    private static let bash = """
      source <(ovx-ctl --generate-completion-script bash)
      COMP_WORDS=("$@")
      COMP_CWORD=$(($# - 1))
      COMP_LINE="$*"
      COMP_POINT=${#COMP_LINE}
      COMP_TYPE=9
      function=$(complete -p ovx-ctl | sed 's/.* -F \\([^ ]*\\).*/\\1/')
      "$function" ovx-ctl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
      printf '%s\\n' "${COMPREPLY[@]}"
      """

    private func offered(on host: Namespace, _ words: String...) throws -> Set<String> {
      let script = "exec bash -c '\(Self.bash.replacing("'", with: "'\\''"))' bash"
      let line = (["ovx-ctl"] + words).map { "'\($0)'" }.joined(separator: " ")
      let output = try host.run("\(script) \(line)")
      #expect(output.standardError == "", "completing \(line)")
      return Set(
        output.standardOutput.split(separator: "\n").map {
          $0.trimmingCharacters(in: .whitespaces)
        })
    }

    @Test func `live names are offered`() throws {
      try Lab.run { lab in
        let (host, _) = try lab.twoHosts()
        _ = try lab.daemon(on: host)
        let web = try lab.namespace("web")
        try host.ctl("add-br br0 -- add-br br1 -- add-port br0 tap0 type=tap")
        try host.ctl("add-net red vni=100 subnet=172.17.42.0/24")
        try host.ctl("attach red \(web.name) eth0")

        #expect(try offered(on: host, "del-br", "") == ["br0", "br1"])
        #expect(try offered(on: host, "del-br", "br1") == ["br1"])
        #expect(try offered(on: host, "del-net", "") == ["red"])
        #expect(try offered(on: host, "attach", "").isSuperset(of: ["br0", "br1", "red"]))
        #expect(try offered(on: host, "attach", "red", "").contains(web.name))
        #expect(try offered(on: host, "detach", "") == [web.name])
        #expect(try offered(on: host, "detach", web.name, "") == ["eth0"])
        #expect(
          try offered(on: host, "stats", "").isSuperset(of: ["tap0", "br0", "eth0@\(web.name)"]))
        #expect(try offered(on: host, "stats", "tap") == ["tap0"])
        #expect(try offered(on: host, "fdb", "show", "") == ["br0", "br1"])
        #expect(try offered(on: host, "list", "network", "") == ["red"])
        #expect(try offered(on: host, "get", "br", "") == ["br0", "br1"])
        #expect(try offered(on: host, "set", "switch", "") == ["."])
        #expect(try offered(on: host, "set", "").contains("Interface"))
        #expect(try offered(on: host, "add-p") == ["add-port"])
        // The daemon that is asked is the one that the line names.
        #expect(try offered(on: host, "--rundir", "/nowhere", "del-br", "") == [])
      }
    }

    /// Both ask the same question as bash's script; fish answers `complete -C` only on a terminal,
    /// and zsh by no command.
    @Test(arguments: [("fish", "--no-execute"), ("zsh", "-fn")])
    func `fish and zsh can read their scripts`(shell: String, check: String) throws {
      try Lab.run { lab in
        let (host, _) = try lab.twoHosts()
        let output = try host.run(
          "export HOME=$(mktemp -d); ovx-ctl --generate-completion-script \(shell) >$HOME/script; "
            + "\(shell) \(check) $HOME/script && grep -c -e ---completion $HOME/script; rm -r $HOME"
        )
        #expect(output.standardError == "", "\(shell)")
        let lines = Int(output.standardOutput.trimmingCharacters(in: .whitespacesAndNewlines)) ?? 0
        #expect(lines > 30, "places where \(shell) asks for live names")
      }
    }

    @Test func `without a daemon nothing is offered, soon and silently`() throws {
      try Lab.run { lab in
        let (host, _) = try lab.twoHosts()
        let start = ContinuousClock.now
        for words in [["del-br"], ["stats"], ["set", "port"], ["attach"], ["detach"]] {
          let path = words.prefix(1).joined()
          let line = (["ovx-ctl"] + words + ["''"]).joined(separator: " ")
          let output = try host.run(
            "ovx-ctl ---completion \(path) -- positional@\(words.count - 1) \(words.count + 1) 0 \(line)"
          )
          #expect(
            output.succeeded && output.standardOutput.allSatisfy(\.isNewline)
              && output.standardError == "", "\(words): \(output)")
        }
        #expect(ContinuousClock.now - start < .seconds(5))
      }
    }
  }
}
