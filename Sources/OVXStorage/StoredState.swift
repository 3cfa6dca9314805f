internal import GRDB
internal import OVXControl
private import OVXDatapath

/// What is stored; GRDB has a type of that name, too.
typealias Configuration = OVXControl.Configuration

/// The versions of the database's schema, oldest first; one that has been released is never edited.
var migrator: DatabaseMigrator {
  var migrator = DatabaseMigrator()
  migrator.registerMigration("1: bridges, ports, interfaces, attachments") { database in
    try database.execute(
      sql: """
        CREATE TABLE bridge (
          name TEXT PRIMARY KEY NOT NULL,
          other_config TEXT NOT NULL,  -- a JSON object, as all maps
          external_ids TEXT NOT NULL
        ) STRICT;
        CREATE TABLE port (
          name TEXT PRIMARY KEY NOT NULL,
          bridge TEXT NOT NULL REFERENCES bridge ON DELETE CASCADE,
          tag INTEGER CHECK (tag BETWEEN 0 AND 4095),
          trunks TEXT NOT NULL,        -- a JSON array, as all sets
          cvlans TEXT NOT NULL,
          vlan_mode TEXT,
          other_config TEXT NOT NULL,
          external_ids TEXT NOT NULL
        ) STRICT;
        CREATE INDEX port_bridge ON port (bridge);
        CREATE TABLE interface (
          name TEXT PRIMARY KEY NOT NULL REFERENCES port ON DELETE CASCADE,
          type TEXT NOT NULL,
          options TEXT NOT NULL,
          mac TEXT,
          mtu_request INTEGER,
          other_config TEXT NOT NULL,
          external_ids TEXT NOT NULL
        ) STRICT;
        CREATE TABLE attachment (
          name TEXT PRIMARY KEY NOT NULL REFERENCES interface ON DELETE CASCADE,
          target TEXT NOT NULL,
          interface TEXT NOT NULL,
          addresses TEXT NOT NULL,
          gateways TEXT NOT NULL,
          UNIQUE (target, interface)
        ) STRICT;
        """
    )
  }
  migrator.registerMigration("2: addresses of internal interfaces") { database in
    try database.execute(
      sql: "ALTER TABLE interface ADD COLUMN addresses TEXT NOT NULL DEFAULT '[]'")
  }
  migrator.registerMigration("3: the host's identity") { database in
    // What Ethernet addresses are made of; see `Database.identity`.
    try database.execute(
      sql: """
        CREATE TABLE host (identity INTEGER NOT NULL) STRICT;
        INSERT INTO host (identity) VALUES (random());
        """)
  }
  migrator.registerMigration("4: which container was attached") { database in
    try database.execute(sql: "ALTER TABLE attachment ADD COLUMN container TEXT")
  }
  migrator.registerMigration("5: a digest of the content") { database in
    try database.execute(
      sql: """
        CREATE TABLE digest (
          id INTEGER PRIMARY KEY NOT NULL CHECK (id = 0),
          value TEXT NOT NULL          -- 32 hexadecimal digits; see Digest
        ) STRICT;
        """)
  }
  migrator.registerMigration("6: the switch's own record") { database in
    try database.execute(
      sql: """
        CREATE TABLE switch (
          name TEXT PRIMARY KEY NOT NULL CHECK (name = '.'),
          other_config TEXT NOT NULL,
          external_ids TEXT NOT NULL
        ) STRICT;
        """)
  }
  migrator.registerMigration("7: networks, and where the switch is") { database in
    try database.execute(
      sql: """
        CREATE TABLE network (
          name TEXT PRIMARY KEY NOT NULL,
          vni INTEGER NOT NULL UNIQUE CHECK (vni BETWEEN 1 AND 16777215),
          bridge TEXT NOT NULL REFERENCES bridge,
          tag INTEGER NOT NULL CHECK (tag BETWEEN 1 AND 4094),
          subnet TEXT NOT NULL,        -- a JSON array, as all sets
          "range" TEXT NOT NULL,
          remotes TEXT NOT NULL,
          gateway TEXT NOT NULL,
          reserved TEXT NOT NULL,
          mtu_request INTEGER,
          other_config TEXT NOT NULL,
          external_ids TEXT NOT NULL
        ) STRICT;
        ALTER TABLE port ADD COLUMN network TEXT;
        ALTER TABLE switch ADD COLUMN local_ip TEXT;
        ALTER TABLE switch ADD COLUMN remotes TEXT NOT NULL DEFAULT '[]';
        """)
  }
  migrator.registerMigration("8: what ports may send") { database in
    try database.execute(
      sql: """
        ALTER TABLE network ADD COLUMN port_security INTEGER NOT NULL DEFAULT 1;
        ALTER TABLE port ADD COLUMN port_security INTEGER;
        ALTER TABLE port ADD COLUMN allowed_addresses TEXT NOT NULL DEFAULT '[]';
        """)
  }
  migrator.registerMigration("9: gateways of networks") { database in
    try database.execute(
      sql: """
        ALTER TABLE network ADD COLUMN gateway_mode TEXT NOT NULL DEFAULT 'distributed';
        ALTER TABLE network ADD COLUMN nat TEXT NOT NULL DEFAULT 'none';
        ALTER TABLE network ADD COLUMN floating TEXT NOT NULL DEFAULT '{}';
        """)
  }
  migrator.registerMigration("10: DHCP and DNS of networks") { database in
    try database.execute(
      sql: """
        ALTER TABLE network ADD COLUMN dhcp INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE network ADD COLUMN dns INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE network ADD COLUMN domain TEXT;
        """)
  }
  migrator.registerMigration("11: routes of interfaces") { database in
    try database.execute(
      sql: "ALTER TABLE interface ADD COLUMN routes TEXT NOT NULL DEFAULT '[]'")
  }
  migrator.registerMigration("12: who tells of other hosts") { database in
    try database.execute(
      sql: "ALTER TABLE switch ADD COLUMN control_plane TEXT NOT NULL DEFAULT 'none'")
  }
  migrator.registerMigration("13: what has happened") { database in
    try database.execute(
      sql: """
        CREATE TABLE event (
          number INTEGER PRIMARY KEY NOT NULL,
          time TEXT NOT NULL,          -- in UTC, as RFC 3339 writes it
          latest TEXT,
          count INTEGER NOT NULL,
          kind TEXT NOT NULL,
          port TEXT,
          bridge TEXT,
          uid INTEGER,
          pid INTEGER,
          text TEXT NOT NULL
        ) STRICT;
        """)
  }
  migrator.registerMigration("14: published ports") { database in
    try database.execute(sql: "ALTER TABLE port ADD COLUMN publish TEXT NOT NULL DEFAULT '[]'")
  }
  return migrator
}

/// The state as rows, each table by primary key.
struct StoredState {
  private var bridges: [String: BridgeRow] = [:]
  private var ports: [String: PortRow] = [:]
  private var interfaces: [String: InterfaceRow] = [:]
  private var attachments: [String: AttachmentRow] = [:]
  private var networks: [String: NetworkRow] = [:]
  /// Empty where nothing has been set.
  private var hosts: [String: SwitchRow] = [:]

  init(_ configuration: Configuration) {
    let host = SwitchRow(configuration.host)
    if host.record != Configuration.SwitchRecord() { hosts[host.name] = host }
    bridges = configuration.bridges.mapValues(BridgeRow.init)
    ports = configuration.ports.mapValues(PortRow.init)
    interfaces = configuration.ports.mapValues(InterfaceRow.init)
    attachments = configuration.ports.compactMapValues(AttachmentRow.init)
    networks = configuration.networks.mapValues(NetworkRow.init)
  }

  init(_ database: GRDB.Database) throws {
    for row in try BridgeRow.fetchAll(database) { bridges[row.name] = row }
    for row in try PortRow.fetchAll(database) { ports[row.name] = row }
    for row in try InterfaceRow.fetchAll(database) { interfaces[row.name] = row }
    for row in try AttachmentRow.fetchAll(database) { attachments[row.name] = row }
    for row in try NetworkRow.fetchAll(database) { networks[row.name] = row }
    for row in try SwitchRow.fetchAll(database) { hosts[row.name] = row }
  }

  var configuration: Configuration {
    get throws {
      var configuration = Configuration()
      configuration.host = hosts["."]?.record ?? Configuration.SwitchRecord()
      configuration.bridges = bridges.mapValues(\.bridge)
      for (name, row) in networks { configuration.networks[name] = try row.network }
      for (name, row) in ports {
        guard let interface = interfaces[name] else {
          throw ControlError("port \(name) has no interface")
        }
        var port = try row.port
        port.interface = try interface.interface
        port.interface.attachment = attachments[name]?.attachment
        configuration.ports[name] = port
      }
      return configuration
    }
  }

  /// The tables that the rows are of.
  static let tables = [
    BridgeRow.databaseTableName, PortRow.databaseTableName, InterfaceRow.databaseTableName,
    AttachmentRow.databaseTableName, NetworkRow.databaseTableName, SwitchRow.databaseTableName,
  ]

  /// The digest of the rows.
  var digest: Digest {
    get throws {
      var sum = Digest()
      func add(_ row: some PersistableRecord) throws {
        sum += Digest(of: type(of: row).databaseTableName, try row.databaseDictionary)
      }
      for row in bridges.values { try add(row) }
      for row in ports.values { try add(row) }
      for row in interfaces.values { try add(row) }
      for row in attachments.values { try add(row) }
      for row in networks.values { try add(row) }
      for row in hosts.values { try add(row) }
      return sum
    }
  }

  /// Writes what is new or different and deletes what is gone: parents before children, and the
  /// other way round.
  func replace(_ old: StoredState, in database: GRDB.Database) throws {
    // Deleted first, because the place that an attachment leaves may be taken by another.
    for (name, row) in old.attachments where attachments[name] != row { try row.delete(database) }
    // The same with VNIs of networks.
    for (name, row) in old.networks where networks[name] != row { try row.delete(database) }
    for (name, row) in bridges where old.bridges[name] != row { try row.upsert(database) }
    for (name, row) in networks where old.networks[name] != row { try row.upsert(database) }
    for (name, row) in ports where old.ports[name] != row { try row.upsert(database) }
    for (name, row) in interfaces where old.interfaces[name] != row { try row.upsert(database) }
    for (name, row) in attachments where old.attachments[name] != row { try row.upsert(database) }
    for (name, row) in old.interfaces where interfaces[name] == nil { try row.delete(database) }
    for (name, row) in old.ports where ports[name] == nil { try row.delete(database) }
    for (name, row) in old.bridges where bridges[name] == nil { try row.delete(database) }
    for (name, row) in hosts where old.hosts[name] != row { try row.upsert(database) }
    for (name, row) in old.hosts where hosts[name] == nil { try row.delete(database) }
  }
}

private struct SwitchRow: Codable, Equatable, FetchableRecord, PersistableRecord {
  static let databaseTableName = "switch"

  var name = "."
  var localIP: IPAddress?
  var remotes: [IPAddress]
  var controlPlane: Configuration.ControlPlane
  var otherConfig: [String: String]
  var externalIDs: [String: String]

  enum CodingKeys: String, CodingKey {
    case name, remotes
    case localIP = "local_ip"
    case controlPlane = "control_plane"
    case otherConfig = "other_config"
    case externalIDs = "external_ids"
  }

  init(_ record: Configuration.SwitchRecord) {
    localIP = record.localIP
    remotes = record.remotes
    controlPlane = record.controlPlane
    otherConfig = record.otherConfig
    externalIDs = record.externalIDs
  }

  var record: Configuration.SwitchRecord {
    var record = Configuration.SwitchRecord()
    record.localIP = localIP
    record.remotes = remotes
    record.controlPlane = controlPlane
    record.otherConfig = otherConfig
    record.externalIDs = externalIDs
    return record
  }
}

private struct BridgeRow: Codable, Equatable, FetchableRecord, PersistableRecord {
  static let databaseTableName = "bridge"

  var name: String
  var otherConfig: [String: String]
  var externalIDs: [String: String]

  enum CodingKeys: String, CodingKey {
    case name
    case otherConfig = "other_config"
    case externalIDs = "external_ids"
  }

  init(_ bridge: Configuration.Bridge) {
    name = bridge.name
    otherConfig = bridge.otherConfig
    externalIDs = bridge.externalIDs
  }

  var bridge: Configuration.Bridge {
    var bridge = Configuration.Bridge(name: name)
    bridge.otherConfig = otherConfig
    bridge.externalIDs = externalIDs
    return bridge
  }
}

private struct PortRow: Codable, Equatable, FetchableRecord, PersistableRecord {
  static let databaseTableName = "port"

  var name: String
  var bridge: String
  var tag: UInt16?
  var trunks: [UInt16]
  var cvlans: [UInt16]
  var vlanMode: String?
  var network: String?
  var portSecurity: Bool?
  var allowedAddresses: [AllowedAddress]
  var publish: [PublishedPort]
  var otherConfig: [String: String]
  var externalIDs: [String: String]

  enum CodingKeys: String, CodingKey {
    case name, bridge, tag, trunks, cvlans, network, publish
    case vlanMode = "vlan_mode"
    case portSecurity = "port_security"
    case allowedAddresses = "allowed_addresses"
    case otherConfig = "other_config"
    case externalIDs = "external_ids"
  }

  init(_ port: Configuration.Port) {
    name = port.name
    bridge = port.bridge
    tag = port.tag?.rawValue
    trunks = port.trunks.map(\.rawValue).sorted()
    cvlans = port.customerVLANs.map(\.rawValue).sorted()
    vlanMode = port.vlanMode?.rawValue
    network = port.network
    portSecurity = port.portSecurity
    allowedAddresses = port.allowedAddresses
    publish = port.published
    otherConfig = port.otherConfig
    externalIDs = port.externalIDs
  }

  /// The port, its interface still to be filled in.
  var port: Configuration.Port {
    get throws {
      var port = Configuration.Port(name: name, bridge: bridge)
      if let tag { port.tag = try vlan(tag) }
      port.trunks = Set(try trunks.map(vlan))
      port.customerVLANs = Set(try cvlans.map(vlan))
      if let vlanMode {
        guard let mode = Configuration.VLANMode(rawValue: vlanMode) else {
          throw ControlError("port \(name) has the unknown vlan_mode \"\(vlanMode)\"")
        }
        port.vlanMode = mode
      }
      port.network = network
      port.portSecurity = portSecurity
      port.allowedAddresses = allowedAddresses
      port.published = publish
      port.otherConfig = otherConfig
      port.externalIDs = externalIDs
      return port
    }
  }

  private func vlan(_ number: UInt16) throws -> VLANID {
    guard let vlan = VLANID(rawValue: number) else {
      throw ControlError("port \(name) has the VLAN \(number), which is above 4095")
    }
    return vlan
  }
}

private struct InterfaceRow: Codable, Equatable, FetchableRecord, PersistableRecord {
  static let databaseTableName = "interface"

  var name: String
  /// Empty for an unsettled type, which is never stored.
  var type: String
  var options: [String: String]
  var mac: String?
  var mtuRequest: Int?
  var otherConfig: [String: String]
  var externalIDs: [String: String]
  var addresses: [InterfaceAddress]
  var routes: [HostRoute]

  enum CodingKeys: String, CodingKey {
    case name, type, options, mac, addresses, routes
    case mtuRequest = "mtu_request"
    case otherConfig = "other_config"
    case externalIDs = "external_ids"
  }

  init(_ port: Configuration.Port) {
    name = port.name
    type = port.interface.type?.rawValue ?? ""
    options = port.interface.options
    mac = port.interface.mac?.description
    mtuRequest = port.interface.mtuRequest
    otherConfig = port.interface.otherConfig
    externalIDs = port.interface.externalIDs
    addresses = port.interface.addresses
    routes = port.interface.routes
  }

  var interface: Configuration.Interface {
    get throws {
      guard let type = Configuration.InterfaceType(rawValue: type) else {
        throw ControlError("interface \(name) has the unknown type \"\(type)\"")
      }
      var interface = Configuration.Interface(type: type)
      interface.options = options
      if let mac {
        guard let address = MACAddress(mac) else {
          throw ControlError("interface \(name) has \"\(mac)\" for an Ethernet address")
        }
        interface.mac = address
      }
      interface.mtuRequest = mtuRequest
      interface.otherConfig = otherConfig
      interface.externalIDs = externalIDs
      interface.addresses = addresses
      interface.routes = routes
      return interface
    }
  }
}

private struct AttachmentRow: Codable, Equatable, FetchableRecord, PersistableRecord {
  static let databaseTableName = "attachment"

  var name: String
  var target: String
  var interface: String
  var addresses: [InterfaceAddress]
  var gateways: [IPAddress]
  var container: String?

  init?(_ port: Configuration.Port) {
    guard let attachment = port.interface.attachment else { return nil }
    name = port.name
    target = attachment.target
    interface = attachment.interface
    addresses = attachment.addresses
    gateways = attachment.gateways
    container = attachment.container
  }

  var attachment: Configuration.Attachment {
    var attachment = Configuration.Attachment(
      target: target, interface: interface, addresses: addresses, gateways: gateways)
    attachment.container = container
    return attachment
  }
}
