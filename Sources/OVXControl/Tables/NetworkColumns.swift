internal import OVXDatapath

extension Table<Configuration.Network> {
  static var networks: Self {
    Table(
      name: .network,
      records: \.networks,
      columns: [
        Column("_uuid", .one(.text)) { network, _, _ in
          .scalar(.text(RecordID.text(.network, network.name)))
        },
        Column("name", .one(.text)) { network, _, _ in .scalar(.text(network.name)) },
        Column(
          "vni", .one(.integer(1...Int(VNI.max))),
          read: { network, _, _ in .scalar(Atom(network.vni)) },
          write: { network, datum in
            guard case .integer(let number)? = datum.atoms.first,
              let vni = VNI(rawValue: UInt32(clamping: number))
            else { return }
            network.vni = vni
          }),
        Column(
          "bridge", .one(.text),
          read: { network, _, _ in .scalar(.text(network.bridge)) },
          write: { network, datum in network.bridge = datum.atoms.first?.bare ?? network.bridge }),
        Column(
          "tag", .one(.integer(1...4094)),
          read: { network, _, _ in .scalar(Atom(network.tag)) },
          write: { network, datum in
            network.tag = datum.atoms.first.flatMap(VLANID.init) ?? network.tag
          }),
        .set("subnet", .prefix, \.subnets),
        .set("range", .addressRange, \.ranges),
        .set("remotes", .address, \.remotes),
        .set("gateway", .address, \.gateways),
        .choice("gateway_mode", \.gatewayMode, usually: .distributed),
        .choice("nat", \.nat, usually: .none),
        .map("floating", \.floating),
        .flag("dhcp", \.dhcp),
        .flag("dns", \.dns),
        Column(
          "domain", .optional(.text),
          read: { network, _, _ in .scalar(network.domain.map(Atom.text)) },
          write: { network, datum in network.domain = datum.atoms.first?.bare }),
        Column(
          "port_security", .one(.boolean),
          read: { network, _, _ in .scalar(.boolean(network.portSecurity)) },
          write: { network, datum in network.portSecurity = datum.atoms.first == .boolean(true) }),
        Column(
          "mtu_request", .optional(.integer(Configuration.mtuRange)),
          read: { network, _, _ in .scalar(network.mtuRequest.map(Atom.integer)) },
          write: { network, datum in
            guard case .integer(let mtu)? = datum.atoms.first else {
              network.mtuRequest = nil
              return
            }
            network.mtuRequest = mtu
          }),
        .map("other_config", \.otherConfig),
        .map("external_ids", \.externalIDs),
        Column("members", .set(.text)) { network, configuration, _ in
          .set(configuration.members(of: network.name).map { .text($0.name) })
        },
        Column("reserved", .set(.address)) { network, _, _ in
          .set(network.reserved.map { .text($0.description) })
        },
        Column("status", .map) { network, configuration, live in
          let use = configuration.use(of: network)
          let remotes = live.toldRemotes(network.name) ?? configuration.remotes(of: network).count
          var status: [String: Atom] = [
            "addresses_used": .integer(use.used), "addresses_free": .integer(use.free),
            "remotes": .integer(remotes),
          ]
          if let gateway = live.gateway(network.name) {
            status["gateway"] = .text(gateway.condition.rawValue)
          }
          return .map(status)
        },
        Column("error", .optional(.text)) { network, configuration, live in
          let ports = [network.tunnelPort, network.gatewayPort].filter {
            configuration.ports[$0]?.network == network.name
          }
          let error = ports.lazy.compactMap { live.interface($0)?.error }.first
          return .scalar((error ?? live.gateway(network.name)?.faults.first).map(Atom.text))
        },
      ]
    )
  }
}

extension Column {
  /// A column of values that are written as their texts.
  static func set<Value: LosslessStringConvertible>(
    _ name: String, _ shape: AtomShape, _ path: WritableKeyPath<Record, [Value]>
  ) -> Self {
    Column(
      name, .set(shape),
      read: { record, _, _ in
        .set(record[keyPath: path].map { Atom.text($0.description) }.sorted())
      },
      write: { record, datum in
        record[keyPath: path] = datum.atoms.sorted().compactMap { Value($0.bare) }
      })
  }
}

extension Column {
  /// A column that is true or, where nothing is said, false.
  static func flag(_ name: String, _ path: WritableKeyPath<Record, Bool>) -> Self {
    Column(
      name, .one(.boolean),
      read: { record, _, _ in .scalar(.boolean(record[keyPath: path])) },
      write: { record, datum in record[keyPath: path] = datum.atoms.first == .boolean(true) },
      usual: .scalar(.boolean(false)))
  }

  /// A column of one of a list of words.
  ///
  /// - Parameters:
  ///   - name: Its name.
  ///   - path: Where a record has its value.
  ///   - value: What it is where nothing is said.
  /// - Returns: The column.
  static func choice<Value: CaseIterable & RawRepresentable<String>>(
    _ name: String, _ path: WritableKeyPath<Record, Value>, usually value: Value
  ) -> Self {
    Column(
      name, .one(.choice(Value.allCases.map(\.rawValue))),
      read: { record, _, _ in .scalar(.text(record[keyPath: path].rawValue)) },
      write: { record, datum in
        record[keyPath: path] =
          datum.atoms.first.flatMap { Value(rawValue: $0.bare) } ?? record[keyPath: path]
      }, usual: .scalar(.text(value.rawValue)))
  }
}
