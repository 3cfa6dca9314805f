internal import ArgumentParser
internal import OVXControl

// Tables: the database commands of ovs-vsctl, on Bridge, Port, Interface, Network and Switch.

private let grammar = """
  The tables are Bridge, Port, Interface, Network and Switch (Open_vSwitch), whose one record is ".". Tables and columns may be shortened to an unambiguous beginning, in any \
  letter case, with - and _ the same. A value is a word or a text in double quotes; a set is [A, B] or A,B; a map is \
  {K=V, L=W}; [], {} and "" are empty, and no value at all is refused. A record goes by its name or its _uuid.
  """

struct SetColumns: Verb {
  static let configuration = CommandConfiguration(
    commandName: "set",
    abstract: "Set columns of a record.",
    discussion: """
      \(grammar)

      EXAMPLES
        ovx-ctl set port veth1 tag=100
        ovx-ctl set interface vxlan0 type=vxlan options:key=100 options:remote_ip=192.168.5.3
        ovx-ctl set bridge br0 other_config:mac-aging-time=60
        ovx-ctl set port veth2 trunks=[10,20]
      """
  )

  @OptionGroup var global: GlobalOptions
  @OptionGroup var ifExists: IfExists
  @Argument(help: "Bridge, Port, Interface or Switch.", completion: .tables)
  var table: String
  @Argument(help: "The record's name.", completion: .records) var record: String
  @Argument(help: ArgumentHelp("COLUMN[:KEY]=VALUE.", valueName: "setting"))
  var settings: [String]

  func command() throws -> Command {
    .set(
      table: table,
      record: record,
      settings: try settings.map(Setting.init(parsing:)),
      ifExists: ifExists.isSet
    )
  }
}

struct GetColumns: Verb {
  static let configuration = CommandConfiguration(
    commandName: "get",
    abstract: "Print columns of a record, one per line.",
    discussion: """
      \(grammar)

      EXAMPLES
        ovx-ctl get port veth1 tag
        ovx-ctl get interface vxlan0 options:remote_ip
      """
  )

  @OptionGroup var global: GlobalOptions
  @OptionGroup var ifExists: IfExists
  @Argument(help: "Bridge, Port, Interface or Switch.", completion: .tables)
  var table: String
  @Option(help: ArgumentHelp("Call the record @NAME in the commands behind.", valueName: "@name"))
  var id: String?
  @Argument(help: "The record's name.", completion: .records) var record: String
  @Argument(help: ArgumentHelp("COLUMN[:KEY].", valueName: "column")) var columns: [String] = []

  func validate() throws {
    guard id != nil || !columns.isEmpty else {
      throw ValidationError("Missing expected argument '<column> ...'")
    }
  }

  func command() -> Command {
    .get(table: table, record: record, columns: columns, ifExists: ifExists.isSet)
  }
}

/// `--columns`, for commands that print records.
struct Columns: ParsableArguments {
  @Option(name: .customLong("columns"), help: "Print these columns only, separated by commas.")
  var list: String?

  var names: [String] { list.map { $0.split(separator: ",").map(String.init) } ?? [] }
}

struct ListRecords: Verb {
  static let configuration = CommandConfiguration(
    commandName: "list",
    abstract: "Print records of a table, all where none is named.",
    discussion: """
      \(grammar)

      EXAMPLES
        ovx-ctl list interface vxlan0
        ovx-ctl -f table --columns=name,tag list port
      """
  )

  @OptionGroup var global: GlobalOptions
  @OptionGroup var ifExists: IfExists
  @OptionGroup var columns: Columns
  @Argument(help: "Bridge, Port, Interface or Switch.", completion: .tables)
  var table: String
  @Argument(
    help: ArgumentHelp("The records' names.", valueName: "record"), completion: .records)
  var records: [String] = []

  func command() -> Command {
    .list(table: table, records: records, columns: columns.names, ifExists: ifExists.isSet)
  }
}

struct FindRecords: Verb {
  static let configuration = CommandConfiguration(
    commandName: "find",
    abstract: "Print the records of a table that fulfil all conditions.",
    discussion: """
      \(grammar)

      A condition is COLUMN[:KEY]OPERATOR VALUE without the space, with one of the operators = != < > <= >= and, for \
      sets, {=} {!=} {<} {>} {<=} {>=} {in} {not-in}. Quote those that the shell would take for itself.

      EXAMPLES
        ovx-ctl find port tag=100
        ovx-ctl --columns=name find interface type=vxlan options:key=100
        ovx-ctl find interface 'statistics:rx_dropped>0'
      """
  )

  @OptionGroup var global: GlobalOptions
  @OptionGroup var columns: Columns
  @Argument(help: "Bridge, Port, Interface or Switch.", completion: .tables)
  var table: String
  @Argument(help: ArgumentHelp("COLUMN[:KEY]=VALUE.", valueName: "condition"))
  var conditions: [String] = []

  func command() throws -> Command {
    .find(
      table: table,
      conditions: try conditions.map(Condition.init(parsing:)),
      columns: columns.names
    )
  }
}

struct AddValues: Verb {
  static let configuration = CommandConfiguration(
    commandName: "add",
    abstract: "Add values to a set, or entries to a map.",
    discussion: """
      \(grammar)

      An entry whose key is there already is left as it is.

      EXAMPLES
        ovx-ctl add port veth2 trunks 10 20
        ovx-ctl add bridge br0 external_ids owner=ops
      """
  )

  @OptionGroup var global: GlobalOptions
  @OptionGroup var ifExists: IfExists
  @Argument(help: "Bridge, Port, Interface or Switch.", completion: .tables)
  var table: String
  @Argument(help: "The record's name.", completion: .records) var record: String
  @Argument(help: "The column.") var column: String
  @Argument(help: ArgumentHelp("VALUE or KEY=VALUE.", valueName: "value")) var values: [String]

  func command() -> Command {
    .add(
      table: table,
      record: record,
      column: column,
      values: values,
      ifExists: ifExists.isSet
    )
  }
}

struct RemoveValues: Verb {
  static let configuration = CommandConfiguration(
    commandName: "remove",
    abstract: "Remove values from a set, or entries from a map.",
    discussion: """
      \(grammar)

      EXAMPLES
        ovx-ctl remove port veth2 trunks 20
        ovx-ctl remove bridge br0 other_config mac-aging-time
      """
  )

  @OptionGroup var global: GlobalOptions
  @OptionGroup var ifExists: IfExists
  @Argument(help: "Bridge, Port, Interface or Switch.", completion: .tables)
  var table: String
  @Argument(help: "The record's name.", completion: .records) var record: String
  @Argument(help: "The column.") var column: String
  @Argument(help: ArgumentHelp("VALUE, KEY or KEY=VALUE.", valueName: "value")) var values: [String]

  func command() -> Command {
    .remove(
      table: table,
      record: record,
      column: column,
      values: values,
      ifExists: ifExists.isSet
    )
  }
}

struct ClearColumns: Verb {
  static let configuration = CommandConfiguration(
    commandName: "clear",
    abstract: "Empty columns of a record.",
    discussion: """
      \(grammar)

      EXAMPLES
        ovx-ctl clear port veth1 tag
      """
  )

  @OptionGroup var global: GlobalOptions
  @OptionGroup var ifExists: IfExists
  @Argument(help: "Bridge, Port, Interface or Switch.", completion: .tables)
  var table: String
  @Argument(help: "The record's name.", completion: .records) var record: String
  @Argument(help: ArgumentHelp("The columns.", valueName: "column")) var columns: [String]

  func command() -> Command {
    .clear(table: table, record: record, columns: columns, ifExists: ifExists.isSet)
  }
}

struct WaitUntil: Verb {
  static let configuration = CommandConfiguration(
    commandName: "wait-until",
    abstract: "Wait until a record exists and fulfils conditions, as long as -t says.",
    discussion: """
      \(grammar)

      The conditions are those of find. Commands joined to it by -- take effect when it is fulfilled, be it for a moment. \
      When the daemon is restarted meanwhile, the next one is waited for.

      EXAMPLES
        ovx-ctl -t 60 wait-until interface veth1 link_state=up
        ovx-ctl wait-until bridge br0 -- list-ports br0
      """)

  @OptionGroup var global: GlobalOptions
  @Argument(help: "Bridge, Port, Interface or Switch.", completion: .tables)
  var table: String
  @Argument(help: "The record's name.", completion: .records) var record: String
  @Argument(help: ArgumentHelp("COLUMN[:KEY]=VALUE.", valueName: "condition"))
  var conditions: [String] = []

  func command() throws -> Command {
    .waitUntil(
      table: table, record: record, conditions: try conditions.map(Condition.init(parsing:)))
  }
}

struct CreateRecord: Verb {
  static let configuration = CommandConfiguration(
    commandName: "create",
    abstract: "Describe a record for another command of the transaction to put somewhere.",
    discussion: """
      With --id=@NAME other commands of the transaction can refer to it. It is made where one of them puts it, and its \
      _uuid is printed. A port has one interface, of the same name.

      EXAMPLES
        ovx-ctl --id=@p create port name=p1 tag=5 interfaces=@i \\
          -- --id=@i create interface name=p1 type=internal -- add bridge br0 ports @p
        ovx-ctl --id=@b create bridge name=br1 -- add switch . bridges @b
      """)

  @OptionGroup var global: GlobalOptions
  @Option(help: ArgumentHelp("The record's name within the transaction.", valueName: "@name"))
  var id: String?
  @Argument(help: "Bridge, Port or Interface.", completion: .tables)
  var table: String
  @Argument(help: ArgumentHelp("COLUMN[:KEY]=VALUE.", valueName: "setting"))
  var settings: [String] = []

  func command() throws -> Command {
    .create(table: table, id: id, settings: try settings.map(Setting.init(parsing:)))
  }
}

struct DestroyRecords: Verb {
  static let configuration = CommandConfiguration(
    commandName: "destroy",
    abstract: "Delete records; a port with its interface.",
    usage: "ovx-ctl [--if-exists] destroy TABLE RECORD... | ovx-ctl --all destroy TABLE")

  @OptionGroup var global: GlobalOptions
  @OptionGroup var ifExists: IfExists
  @Flag(help: "All records of the table.") var all = false
  @Argument(help: "Bridge, Port or Interface.", completion: .tables)
  var table: String
  @Argument(help: ArgumentHelp("The records.", valueName: "record"), completion: .records)
  var records: [String] = []

  func validate() throws {
    guard all != !records.isEmpty else {
      throw ValidationError("name the records, or all of them with --all, and not both")
    }
  }

  func command() -> Command {
    .destroy(table: table, records: all ? nil : records, ifExists: ifExists.isSet)
  }
}

struct Comment: Verb {
  static let configuration = CommandConfiguration(
    commandName: "comment", abstract: "Do nothing; the words are for who reads the script.")

  @OptionGroup var global: GlobalOptions
  @Argument(parsing: .captureForPassthrough, help: "Anything.") var words: [String] = []

  func command() -> Command { .comment(words.joined(separator: " ")) }
}
