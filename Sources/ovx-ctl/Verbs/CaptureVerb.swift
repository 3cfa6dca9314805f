internal import ArgumentParser
internal import OVXControl

struct CaptureFrames: OngoingVerb {
  static let configuration = CommandConfiguration(
    commandName: "capture",
    abstract: "Show the frames of a port or a bridge, or write them to a file.",
    discussion: """
      Of a container's port, the frames that it sends and gets. Of a tunnel, the datagrams, with the outer addresses, UDP \
      ports and lengths that they have on the wire; the outer Ethernet addresses are shown as zero, the TTL as 64 and no \
      UDP checksum, because only the kernel knows them. Of a bridge, each frame that enters it, once, as it is inside. \
      Where a bridge and its internal port have one name, the bridge is meant. A superframe is shown whole, before it is \
      cut, and a checksum that a container has left to be filled in may not be there yet.

      With --drops, what is dropped, each frame with the reason that "drops" counts it under: of the port, of the bridge, or of \
      the whole switch where none is named. The port is the one where it is counted; "in" means that the frame came in by it, \
      "out" that it was to leave by it. -w then writes pcapng, with the port as the interface, the direction, and the reason \
      as each packet's comment. Datagrams that belong to no tunnel are shown with their outer headers. What the kernel loses \
      or does not take is told by its number only.

      FILTER is an expression of pcap-filter(7). Ends on Ctrl-C, after -c frames, or when the port is removed, and then \
      tells on stderr how many frames were captured, and how many were lost because they came faster than they could be \
      taken. Forwarding never waits for a capture.

      EXAMPLES
        ovx-ctl capture veth1
        ovx-ctl capture vxlan0 -c 10 host 192.168.5.3
        ovx-ctl capture br0 -w - arp or icmp | tcpdump -nr -
        ovx-ctl capture --drops
        ovx-ctl capture --drops veth1 -w lost.pcapng
      """
  )

  @OptionGroup var global: GlobalOptions
  @Option(
    name: .customShort("w", allowingJoined: true),
    help: ArgumentHelp(
      "Write pcap (with --drops pcapng) to this file, or to standard output for -.",
      valueName: "file"),
    completion: .file())
  var file: String?
  @Option(
    name: .customShort("c", allowingJoined: true),
    help: ArgumentHelp("End after this many frames.", valueName: "count"))
  var count: String?
  @Option(
    name: .customShort("s", allowingJoined: true),
    help: ArgumentHelp(
      "Take this many bytes of each frame at most (default: \(CaptureFrames.snapshotLimit)).",
      valueName: "bytes"))
  var snapshotLength: String?
  @Flag(help: "Show what is dropped, with the reason, and nothing else.") var drops = false
  @Argument(
    help: "The port or bridge; all where none is named, with --drops.", completion: .bridgesAndPorts
  )
  var target: String?
  @Argument(help: "Which frames, an expression of pcap-filter(7).") var filter: [String] = []

  func command() throws -> Command {
    let limit = Self.snapshotLimit
    let length = try Self.number(snapshotLength, "-s", 1...limit) ?? limit
    _ = try self.limit
    let program = try FilterExpression(filter.joined(separator: " "), snapshotLength: length)
      .program
    if drops {
      return .captureDrops(target: target, program: program, snapshotLength: length)
    }
    guard let target else {
      throw ControlError(
        "capture takes a port or a bridge, such as ovx-ctl capture br0; ovx-ctl show lists what there is, and capture --drops needs none"
      )
    }
    return .capture(target: target, program: program, snapshotLength: length)
  }

  func run(_ command: Command, _ options: GlobalOptions.Values) throws(ControlError) {
    try CaptureSession(self, command, options).run()
  }

  /// Bytes of a frame that are shown at most: all of the longest.
  static let snapshotLimit = 262_144

  /// Frames to end after; `nil` for no such end.
  var limit: Int? {
    get throws(ControlError) { try Self.number(count, "-c", 1...Int.max) }
  }

  private static func number(
    _ text: String?, _ option: String, _ range: ClosedRange<Int>
  ) throws(ControlError) -> Int? {
    guard let text else { return nil }
    guard let number = Int(text), range.contains(number) else {
      let end = range.upperBound == .max ? "on" : "to \(range.upperBound)"
      throw ControlError("\(option) \"\(text)\" is not a number from \(range.lowerBound) \(end)")
    }
    return number
  }
}
