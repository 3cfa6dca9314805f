/// What users of other switches type and ovx has not, and what there is instead.
enum Absent {
  /// What to say of a command; `nil` for a word that no other switch has either.
  static func command(_ word: String) -> String? {
    let word = word.lowercased()
    return openFlow.contains(word) ? openFlowSentence : commands[word]
  }

  /// What to type in the place of an option.
  static func option(_ name: String) -> String? { options[name] }

  /// Words that a mistyped one is never taken for: they end the switch, or take away what somebody
  /// needs.
  static let neverSuggested: Set<String> = [
    "exit", "del-br", "del-port", "detach", "destroy", "clear", "remove", "flush", "del", "apply",
    "--cleanup", "--stale",
  ]

  /// What to say of more words than a command takes; `nil` where no other switch takes them either.
  static func words(of command: String) -> String? {
    guard command == "add-br" else { return nil }
    return
      "ovx has no bridges that are a VLAN of another one: tag=VLAN of a port says its VLAN, as with "
      + "\"add-port BRIDGE p10 tag=VLAN type=internal\" for an interface of the host"
  }

  private static let openFlowSentence =
    "ovx has no OpenFlow: tag, trunks and vlan_mode of the ports say where frames go, and trace tells why"

  /// The commands of ovs-ofctl, and what ovs-appctl knows of flows.
  private static let openFlow: Set<String> = [
    "add-flow", "add-flows", "mod-flows", "del-flows", "replace-flows", "diff-flows", "dump-flows",
    "dump-aggregate", "dump-tables", "dump-table-features", "dump-table-desc", "add-group",
    "add-groups", "mod-group", "insert-buckets", "remove-buckets", "dump-groups",
    "dump-group-stats", "dump-group-features", "del-groups", "add-meter", "mod-meter", "del-meter",
    "del-meters", "dump-meters", "meter-stats", "meter-features", "packet-out", "set-frags",
    "get-frags", "mod-port", "mod-table", "bundle", "probe", "ping", "parse-flow", "parse-flows",
    "ofproto", "dpif", "dpctl", "upcall", "revalidator", "ct-flush", "add-tlv-map", "del-tlv-map",
    "dump-tlv-map", "dump-conntrack", "flush-conntrack", "add-dp", "del-dp", "add-if", "del-if",
    "dump-dps", "ovs-ofctl", "ovs-dpctl",
  ]

  private static let controller =
    "ovx has no controllers: each bridge learns and forwards by itself, as with fail_mode=standalone"
  private static let bond =
    "ovx has no bonds: make one with \"ip link add bond0 type bond mode 802.3ad\", give it its members with "
    + "\"ip link set eth1 master bond0\", and type add-port BRIDGE bond0"
  private static let spanningTree =
    "ovx has no spanning tree: tunnels of one VNI never forward to each other, so a mesh of them has no loop"
  private static let manager =
    "ovx has no manager: ovx-ctl talks to the daemon's socket, which --rundir names, and -f json is for programs"
  private static let mirror =
    "ovx has no mirrors: \"capture PORT\" shows a port's frames, or writes them to a file with -w"
  private static let qos =
    "ovx has no QoS: shape a port's device with tc, such as \"tc qdisc add dev veth1 root tbf rate 10mbit ...\""
  private static let conntrack =
    "ovx does not track connections: nftables does, in a container or on the host"
  private static let service =
    "ovx-vswitchd is the daemon, and systemd or whoever starts it runs it; \"version\" tells whether it answers"
  private static let names = "ovx-ctl takes its commands itself; leave the word out"

  private static let commands: [String: String] = [
    "init": "ovx-vswitchd makes its database when it starts; leave the command out",
    "emer-reset": "ovx has nothing of what it resets (controllers, mirrors, QoS); leave it out",
    "set-controller": controller, "get-controller": controller, "del-controller": controller,
    "set-fail-mode": controller, "get-fail-mode": controller, "del-fail-mode": controller,
    "set-manager": manager, "get-manager": manager, "del-manager": manager,
    "set-ssl": manager, "get-ssl": manager, "del-ssl": manager,
    "add-bond": bond, "add-bond-iface": bond, "del-bond-iface": bond, "bond": bond, "lacp": bond,
    "stp": spanningTree, "rstp": spanningTree, "showstp": spanningTree,
    "setbridgeprio": spanningTree, "setfd": spanningTree, "sethello": spanningTree,
    "setmaxage": spanningTree,
    "setportprio": spanningTree, "setpathcost": spanningTree,
    "add-mirror": mirror, "del-mirror": mirror, "mirror": mirror, "snoop": mirror,
    "tcpdump": mirror,
    "add-qos": qos, "set-qos": qos, "qos": qos, "dump-queue": qos, "queue-stats": qos,
    "queue-get-config": qos, "ingress-policing": qos,
    "add-aa-mapping":
      "ovx has no Auto Attach; key= and tag= of a vxlan port say which VNI a VLAN is",
    "del-aa-mapping":
      "ovx has no Auto Attach; key= and tag= of a vxlan port say which VNI a VLAN is",
    "get-aa-mapping":
      "ovx has no Auto Attach; key= and tag= of a vxlan port say which VNI a VLAN is",
    "add-zone-tp": conntrack, "del-zone-tp": conntrack, "list-zone-tp": conntrack,
    "set-zone-limit": conntrack, "del-zone-limit": conntrack, "list-zone-limits": conntrack,
    "set-zone-default-limit": conntrack, "list-dp-cap": conntrack,
    "mdb": "ovx has no multicast snooping: a group's frames go to every port of its VLAN",
    "vlog": "\"log set LEVEL\" says how much the daemon logs",
    "coverage": "\"drops\" counts lost frames by port and reason, and \"stats\" what ports carried",
    "memory": "\"fdb stats\" and \"neigh stats\" tell how full the tables are",
    "tnl": "\"tunnel show\" prints the tunnels, their remotes and the devices that they leave by",
    "dump-ports": "\"stats\" prints what ports have carried",
    "dump-ports-desc": "\"list interface\" prints what is known of the ports' devices",
    "list-commands": "\"ovx-ctl --help\" lists the commands",
    "dump": "\"export\" prints the configuration, and \"list TABLE\" the records of a table",
    "ovs-vsctl": names, "ovs-appctl": names, "ovx-ctl": names,
    "addbr": "the command is add-br BRIDGE", "addif": "the command is add-port BRIDGE PORT",
    "showmacs": "the command is fdb show BRIDGE",
    "setageing":
      "set bridge BRIDGE other_config:mac-aging-time=SECONDS says when addresses are forgotten",
    "add-vlan": "tag=VLAN of a port makes it one of a VLAN: set port PORT tag=VLAN",
    "add-tunnel": "a tunnel is a port: add-port BRIDGE vxlan0 key=VNI remote=ADDRESS",
    "add-vxlan": "a tunnel is a port: add-port BRIDGE vxlan0 key=VNI remote=ADDRESS",
    "start": service, "status": service, "reload": service,
    "load-conf":
      "\"apply -f FILE\" is for a host in a file, and \"diff -f FILE\" tells what it would change",
  ]

  private static let options: [String: String] = [
    "--json": "-f json", "-j": "-f json", "-json": "-f json", "-o": "-f json",
    "--output": "-f json",
    "--csv": "-f csv", "--table": "-f table", "--yaml": "export, which prints YAML",
    "--real": "list-br without it: every bridge is a real one",
    "--watch": "drops --watch, or top", "-n": "-t SECONDS", "-h": "--help",
    "--socket": "--rundir DIR", "--run-dir": "--rundir DIR", "--wait": "-t SECONDS",
    "--force": "the command without it",
  ]
}
