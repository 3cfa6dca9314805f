internal import ArgumentParser
internal import OVXControl

// The whole configuration as a file.

private let grammar = """
  FILE
    switch: { local_ip: 192.168.5.2, remotes: [192.168.5.3] }
    networks:
      red: { vni: 100, subnet: [172.17.42.0/24] }
    bridges:
      br0:
        address: [172.17.42.1/24]
        ports:
          br0:    { tag: 100 }
          veth1:  { tag: 100 }
          vxlan0: { type: vxlan, key: 100, remote: [192.168.5.3], tag: 100 }

  A bridge has address, other_config, external_ids and ports; a port has the settings of add-port, and address where it \
  is internal. What is not named is as in a new bridge or port, or not there. A port without a type is a tunnel where it \
  has a key or a remote, and else a device of this host, which is waited for.

  switch and networks have the columns of Switch and Network. Where there is no switch, its record stays; the bridge and \
  the tunnel of a network need not be named.

  What attach has made belongs to its container: it is in no file, and stays as it is.

  Behind this command -f is the file, and - the standard input; --format, or -f in front, says how to print.
  """

/// `-f` of commands that read a file, which `Invocation.normalized` turns into `--file`: to the
/// parser `-f` is the format.
struct FileOption: ParsableArguments {
  @Option(
    name: .customLong("file"),
    help: ArgumentHelp("The file, also -f; - is the standard input.", valueName: "file"),
    completion: .file(extensions: ["yaml", "yml", "json"]))
  var path: String?

  func read() throws(ControlError) -> ConfigurationFile {
    guard let path, !path.isEmpty else {
      throw ControlError("there is no file; name one with -f FILE, or -f - for the standard input")
    }
    return try ConfigurationFile(path: path)
  }
}

/// A command whose errors may be about a place in a file.
protocol FileVerb: Verb {
  var file: FileOption { get }
}

extension FileVerb {
  func command() throws -> Command {
    let file = try file.read()
    return .apply(file.configuration, declaresSwitch: file.declaresSwitch)
  }
}

struct Apply: FileVerb {
  static let configuration = CommandConfiguration(
    commandName: "apply",
    abstract: "Make the configuration equal to a file, and print what that changes.",
    usage: "ovx-ctl [--dry-run] apply -f FILE",
    discussion: """
      One transaction: all of it takes effect, or nothing. A second time it changes nothing and prints nothing.

      \(grammar)

      EXAMPLES
        ovx-ctl apply -f configs/one-host.yaml
        ovx-ctl --dry-run apply -f configs/one-host.yaml
        ssh host1 ovx-ctl export | sed s/100/200/ | ovx-ctl apply -f -
      """)

  @OptionGroup var file: FileOption
  @OptionGroup var global: GlobalOptions
}

struct Diff: FileVerb {
  static let configuration = CommandConfiguration(
    commandName: "diff",
    abstract: "Print what apply would change, and exit with 2 where that is something.",
    usage: "ovx-ctl diff -f FILE",
    discussion: """
      As apply with --dry-run: the daemon checks everything and changes nothing. The exit status is 0 where the \
      configuration is equal to the file, 2 where it is not, and 1 where apply would be refused.

      + has to come, - has to go, ~ has to change.

      \(grammar)

      EXAMPLES
        ovx-ctl diff -f configs/one-host.yaml
      """)

  @OptionGroup var file: FileOption
  @OptionGroup var global: GlobalOptions
}

struct Export: Verb {
  static let configuration = CommandConfiguration(
    commandName: "export",
    abstract: "Print the configuration as a file that apply takes.",
    discussion: """
      YAML, or with -f json the same as JSON, which apply takes as well. What attach has made is not in it: it belongs \
      to its container.

      EXAMPLES
        ovx-ctl export > host1.yaml
      """)

  @OptionGroup var global: GlobalOptions

  func command() -> Command { .export }
}
