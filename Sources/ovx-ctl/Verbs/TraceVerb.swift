internal import ArgumentParser
internal import OVXControl

struct TraceFrame: Verb {
  static let configuration = CommandConfiguration(
    commandName: "trace",
    abstract: "Tell what would become of a frame, decision by decision.",
    discussion: """
      The switch's own forwarding code runs on the frame, on the side: nothing is learned, counted or sent. A frame is \
      hexadecimal digits, or words after the flow syntax of Open vSwitch: a protocol (arp, icmp, icmp6, tcp, tcp6, udp, \
      udp6, sctp, ip, ipv6) and key=value pairs, separated by commas or spaces. What is not said is zero, or what a \
      sender would write. A frame on a tunnel port comes from the tunnel's remote, or from tun_src where it has several; \
      hexadecimal digits of a whole packet, with its outer headers, are taken out of them.

      KEYS
      \(TracedFrame.grammar)

      With "to ADDRESS" in the place of the frame it is one of who is behind the port to that address, with what the switch \
      knows of both: a ping, or what the words behind it say; where nobody has answered for the address, the question for \
      it that comes first.

      EXAMPLES
        ovx-ctl trace eth0@web1 to 10.0.0.2
        ovx-ctl trace br0 veth1 to 10.0.0.2 tcp,dport=80
        ovx-ctl trace br0 veth1 arp,src=02:00:00:00:00:01,ip_src=10.0.0.1,ip_dst=10.0.0.2
        ovx-ctl trace br0 veth1 tcp,src=02:00:00:00:00:01,dst=02:00:00:00:00:02,vlan=100,size=1514
        ovx-ctl trace br0 vxlan0 udp,src=02:00:00:00:00:02,dst=02:00:00:00:00:01,tun_src=192.168.5.3
      """
  )

  @OptionGroup var global: GlobalOptions
  @Argument(help: "The bridge; not needed where an address follows.", completion: .bridgesAndPorts)
  var bridge: String
  @Argument(
    help: ArgumentHelp("The port by which the frame comes in.", valueName: "in-port"),
    completion: .ports)
  var port: String
  @Argument(help: "The frame, or: to ADDRESS.") var frame: [String]

  func command() throws -> Command {
    if port == "to" { return try .trace(to: frame, from: bridge) }
    if frame.first == "to" { return try .trace(to: Array(frame.dropFirst()), from: port) }
    return .trace(bridge: bridge, port: port, frame: try TracedFrame(frame.joined(separator: ",")))
  }
}
