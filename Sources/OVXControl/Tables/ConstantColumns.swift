/// Columns of Open vSwitch whose value in ovx is always the same one: it may be set, as it is so,
/// and no other may.
///
/// They can be named like any column, and `list` leaves them out.
extension Column {
  /// A column that is always of one `value`, which `synonyms` name, too; `instead` is what ovx has
  /// in the place of another, a clause.
  static func constant(
    _ name: String, _ value: Atom?, _ synonyms: [String] = [], instead: String
  ) -> Self {
    Column(
      name, .constant(value, synonyms: synonyms, instead: instead),
      read: { _, _, _ in .scalar(value) }, write: { _, _ in }, isListed: false)
  }

  fileprivate static func off(_ name: String, instead: String) -> Self {
    constant(name, .boolean(false), ["no", "off", "0"], instead: instead)
  }

  fileprivate static func zero(_ name: String, instead: String) -> Self {
    constant(name, .integer(0), [], instead: instead)
  }

  fileprivate static func empty(_ name: String, instead: String) -> Self {
    constant(name, nil, ["{}"], instead: instead)
  }
}

extension Column<Configuration.Bridge> {
  static var constants: [Self] {
    let spanningTree =
      "ovx has no spanning tree, as tunnels of one VNI never forward to each other"
    let openFlow = "ovx has no OpenFlow; tag, trunks and vlan_mode of ports say where frames go"
    let capture = "\"capture PORT\" shows a port's frames"
    return [
      .off("stp_enable", instead: spanningTree), .off("rstp_enable", instead: spanningTree),
      .off(
        "mcast_snooping_enable", instead: "ovx sends a group's frames to every port of its VLAN"),
      .constant(
        "fail_mode", nil, ["standalone", "{}"],
        instead: "an ovx bridge is always standalone, as it has no controller"),
      .empty("controller", instead: openFlow), .empty("protocols", instead: openFlow),
      .empty("flow_tables", instead: openFlow),
      .empty("flood_vlans", instead: "ovx learns in every VLAN"),
      .empty("mirrors", instead: capture), .empty("netflow", instead: capture),
      .empty("sflow", instead: capture), .empty("ipfix", instead: capture),
      .empty("auto_attach", instead: "key= and tag= of a vxlan port say which VNI a VLAN is"),
    ]
  }
}

extension Column<Configuration.Port> {
  static var portConstants: [Self] {
    let bond =
      "ovx has no bonds; \"ip link add bond0 type bond\" makes one of Linux, to be added as a port"
    return [
      .constant("lacp", nil, ["off", "{}"], instead: bond), .empty("bond_mode", instead: bond),
      .zero("bond_updelay", instead: bond), .zero("bond_downdelay", instead: bond),
      .off("bond_fake_iface", instead: bond), .empty("bond_active_slave", instead: bond),
      .off("fake_bridge", instead: "ovx has no fake bridges; a port's tag says its VLAN"),
      .off("protected", instead: "ports of different tags never reach each other"),
      .empty("qos", instead: "ovx has no QoS; tc(8) on the port's device shapes what it sends"),
    ]
  }

  static var interfaceConstants: [Self] {
    let policing = "ovx does not police; tc(8) on the port's device does"
    let monitoring = "\"tunnel show\" tells whether a remote can be reached"
    return [
      .zero("ingress_policing_rate", instead: policing),
      .zero("ingress_policing_burst", instead: policing),
      .zero("ingress_policing_kpkts_rate", instead: policing),
      .zero("ingress_policing_kpkts_burst", instead: policing),
      .empty("ofport_request", instead: "ovx numbers ports itself, as no OpenFlow refers to them"),
      .empty("bfd", instead: monitoring), .empty("bfd_status", instead: monitoring),
      .empty("cfm_mpid", instead: monitoring), .empty("cfm_fault", instead: monitoring),
      .empty("lldp", instead: "ovx has no LLDP of its own, and lldpd can use the port's device"),
      .empty("link_resets", instead: "it is not counted"),
      .empty("lacp_current", instead: "ovx has no bonds"),
    ]
  }
}

extension Column<Configuration.SwitchRecord> {
  static var constants: [Self] {
    let manager = "ovx-ctl talks to the daemon's socket, which --rundir names"
    return [
      .empty("manager_options", instead: manager), .empty("ssl", instead: manager),
      .off("dpdk_initialized", instead: "ovx has no DPDK"),
      .empty("dpdk_version", instead: "ovx has no DPDK"),
      .zero("next_cfg", instead: "what ovx-ctl has set is in force when it ends"),
      .zero("cur_cfg", instead: "what ovx-ctl has set is in force when it ends"),
      .empty("statistics", instead: "\"stats\" prints what ports carried"),
      .empty("datapaths", instead: "ovx has no conntrack"),
      .empty("db_version", instead: "the database has no version that anybody sets"),
      .empty("system_type", instead: "external_ids takes what you like"),
      .empty("system_version", instead: "external_ids takes what you like"),
    ]
  }
}

extension Schema {
  /// Tables of Open vSwitch that ovx has not, in which there is nothing; what there is instead, a
  /// clause.
  static let absentTables: [String: String] = [
    "QoS": "ovx has no QoS; tc(8) on a port's device shapes what it sends",
    "Queue": "ovx has no QoS; tc(8) on a port's device shapes what it sends",
    "Mirror": "ovx has no mirrors; \"capture PORT\" shows a port's frames",
    "Controller": "ovx has no controllers; each bridge learns by itself",
    "Manager": "ovx has no manager; ovx-ctl talks to the daemon's socket",
    "SSL": "ovx has no manager; ovx-ctl talks to the daemon's socket",
    "NetFlow": "ovx has no NetFlow; \"stats\" prints what ports carried",
    "sFlow": "ovx has no sFlow; \"stats\" prints what ports carried",
    "IPFIX": "ovx has no IPFIX; \"stats\" prints what ports carried",
    "Flow_Table": "ovx has no OpenFlow; tag, trunks and vlan_mode of ports say where frames go",
    "Flow_Sample_Collector_Set": "ovx has no OpenFlow; \"capture PORT\" shows a port's frames",
    "AutoAttach": "ovx has no Auto Attach; key= and tag= of a vxlan port say which VNI a VLAN is",
    "Datapath": "ovx has no conntrack", "CT_Zone": "ovx has no conntrack",
    "CT_Timeout_Policy": "ovx has no conntrack",
  ]

  /// Whether a name is that of a table of Open vSwitch that ovx has not.
  static func isAbsent(_ name: String) -> Bool {
    (try? TableName(matching: name)) == nil && absentTable(name) != nil
  }

  /// What there is instead of a table that ovx has not; `nil` for a name that is none of Open
  /// vSwitch's.
  static func absentTable(_ name: String) -> String? {
    guard case .one(let table) = match(name, in: absentTables.keys.sorted()) else { return nil }
    return absentTables[table]
  }
}
