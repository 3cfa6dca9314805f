package import OVXDatapath

/// One thing to do or to tell: what a `--` separates on the command line.
///
/// Travels as JSON: an object with one member, the case's name, whose value holds the parameters by
/// name.
package enum Command: Codable, Equatable, Sendable {
  // Configuration: bridges and ports
  case addBridge(bridge: String, mayExist: Bool)
  case deleteBridge(bridge: String, ifExists: Bool)
  case addPort(bridge: String, port: String, settings: [Setting], mayExist: Bool)
  /// Removes a port, from the given bridge or from whichever has it.
  case deletePort(bridge: String?, port: String, ifExists: Bool)
  /// Puts a TAP into a container: addresses and gateway are in the attachment, `tag`, `mac`, `mtu`
  /// in the settings.
  ///
  /// `bridge` is the name of a bridge or of a network, which then gives what is not asked for.
  case attach(
    bridge: String,
    attachment: Configuration.Attachment,
    settings: [Setting],
    mayExist: Bool
  )
  case detach(target: String, interface: String, ifExists: Bool)
  /// Detaches from all containers that are gone for good.
  case detachStale

  // Configuration: networks
  case addNetwork(network: String, settings: [Setting], mayExist: Bool)
  case deleteNetwork(network: String, ifExists: Bool)
  /// Keeps an address of a network for a program that attaches by itself: the given one, or a free
  /// one of the given subnet or the first. Answers it as `names`, with the length of its prefix.
  case reserveAddress(network: String, subnet: IPPrefix?, address: IPAddress?)
  case releaseAddress(network: String, address: IPAddress)
  /// Makes the gateway's port of a network in a network namespace, which `target` names as `attach`
  /// takes it.
  case openGateway(network: String, target: String)
  case listNetworks
  /// Networks with their members, tunnels and addresses; all where none is named.
  case showNetworks(network: String?)

  // Configuration: tables
  case set(table: String, record: String, settings: [Setting], ifExists: Bool)
  case add(table: String, record: String, column: String, values: [String], ifExists: Bool)
  case remove(table: String, record: String, column: String, values: [String], ifExists: Bool)
  case clear(table: String, record: String, columns: [String], ifExists: Bool)
  /// The values of columns (`name` or `name:key`) of one record.
  case get(table: String, record: String, columns: [String], ifExists: Bool)
  /// The records of a table; all columns where none is named, all records likewise.
  case list(table: String, records: [String], columns: [String], ifExists: Bool)
  /// The records for which all conditions hold.
  case find(table: String, conditions: [Condition], columns: [String])
  /// Nothing where a record exists and all conditions hold for it; else the transaction fails with
  /// `.timedOut`, and the daemon holds it until that has changed, or its time is over.
  case waitUntil(table: String, record: String, conditions: [Condition])

  /// Describes a record, and names it for other commands of the transaction: `@NAME`.
  case create(table: String, id: String?, settings: [Setting])
  /// Deletes records; all of the table where `records` is `nil`.
  case destroy(table: String, records: [String]?, ifExists: Bool)
  /// Names a record for the commands behind it.
  case reference(id: String, table: String, record: String)
  /// A note for the log.
  case comment(String)

  // Configuration: as a whole
  /// Makes the state equal to what a file declares, and tells what that has changed. What `attach`
  /// has made stays.
  ///
  /// The switch's own record stays, too, where the file says nothing of it.
  case apply(Configuration, declaresSwitch: Bool)
  /// The configuration itself, for a file to be made of it.
  case export

  // Questions to the configuration
  case listBridges
  case bridgeExists(bridge: String)
  case listPorts(bridge: String)
  case portToBridge(port: String)
  /// The bridge that a bridge is a part of: itself.
  case bridgeParent(bridge: String)
  /// The VLAN of a bridge that is a part of another: 0, as there are none.
  case bridgeVLAN(bridge: String)
  /// The value of a key of a bridge's `external_ids`, or all with their keys.
  case bridgeExternalIDs(bridge: String, key: String?)

  // Questions to the running switch
  case show
  /// One bridge and its ports.
  case showBridge(bridge: String)
  /// Who is at the other end of each port of a bridge, or of all.
  case showLinks(bridge: String?)
  /// The address tables of the given bridges, of all where none is given.
  case showAddresses(bridges: [String])
  /// Forgets learned addresses of one bridge, or of all.
  case flushAddresses(bridge: String?)
  case addAddress(bridge: String, port: String, vlan: VLANID, address: MACAddress)
  case deleteAddress(bridge: String, vlan: VLANID, address: MACAddress)
  case addressStatistics(bridges: [String])
  /// Takes what an agent knows of other hosts; what of it cannot be in force is answered as
  /// `names`, a sentence each.
  case agent(AgentUpdate)
  /// Takes how the gateways of this host are, for as long as the connection lasts on which it is
  /// told.
  case gateways(GatewayReport)
  /// Which of some remote VTEPs are there, as `signs`; see `SignsOfLife`. At most
  /// `SignsOfLife.limit` at a time.
  case signs(vteps: [IPAddress])
  /// The neighbor tables of the given bridges, of all where none is given.
  case showNeighbors(bridges: [String])
  /// Forgets the neighbors of one bridge, or of all.
  case flushNeighbors(bridge: String?)
  case neighborStatistics(bridges: [String])
  /// Counters of one port, or of all.
  case statistics(port: String?)
  /// Lost frames by port and reason; those that never happened are left out.
  case drops
  case showTunnels
  /// What has happened: the history of the switch, oldest first; the last so many, or all.
  case showEvents(last: Int?)
  /// From which level on the daemon logs.
  case logLevel
  case setLogLevel(LogLevel)
  /// Tells what would become of a frame that comes in by a port, without anything coming of it.
  case trace(bridge: String, port: String, frame: TracedFrame)
  /// The same for a frame to an address, put together from what the switch knows of both ends;
  /// `words` say more of it.
  case traceTo(port: String, address: IPAddress, words: String)
  /// Shows the frames of a port or a bridge, on the connection on which it is asked, from the
  /// answer on.
  ///
  /// `program` is the packet filter's, one number per instruction, as libpcap compiles it; empty
  /// for all frames.
  case capture(target: String, program: [UInt64], snapshotLength: Int)
  /// The same for frames that are dropped, with the reason: those of a port or a bridge, or all
  /// where none is named.
  case captureDrops(target: String?, program: [UInt64], snapshotLength: Int)
  /// Ends a capture and tells what it has come to.
  case endCapture(number: UInt64)
  /// Tells all rows of some tables, and then each change, on the connection on which it is asked:
  /// lines of `WatchEvent` behind the answer, which is `done`.
  ///
  /// `interval` is in milliseconds, in `watchIntervalRange`: how often counters are looked at.
  case watch(tables: [WatchedTable], interval: Int)
  case version
  // Questions to ovx-evpn, on a socket of its own
  case showEVPN
  /// The routes of a network, or of all.
  case showEVPNRoutes(network: String?)
  case showEVPNVTEPs(network: String?)
  /// Lets a station move again that has moved too often.
  case unfreezeStation(network: String, mac: MACAddress)
  /// Has what the request changes taken back unless `confirm` comes within so many seconds, of
  /// `confirmRange`.
  case confirmWithin(seconds: Int)
  /// Lets the change stay that waits to be confirmed; with `undo`, takes it back at once. Stands
  /// alone.
  case confirm(undo: Bool)
  /// Ends the daemon; with cleanup, removes the devices that it made.
  case exit(cleanup: Bool)
}

extension Command {
  /// Milliseconds between two looks of a watch at the counters.
  package static let watchIntervalRange = 100...3_600_000

  /// Seconds within which a change can be confirmed.
  package static let confirmRange = 1...3600
}

/// A column to set, `column[:key]=value`, with the value still as text: only its column knows how
/// to read it.
package struct Setting: Codable, Equatable, Sendable {
  package var column: String
  package var key: String?
  package var value: String

  package init(column: String, key: String? = nil, value: String) {
    self.column = column
    self.key = key
    self.value = value
  }
}

/// A condition of `find`: `column[:key] OPERATOR value`.
package struct Condition: Codable, Equatable, Sendable {
  package var column: String
  package var key: String?
  package var comparison: Comparison
  package var value: String

  package init(column: String, key: String? = nil, comparison: Comparison, value: String) {
    self.column = column
    self.key = key
    self.comparison = comparison
    self.value = value
  }

  /// The operators; those in braces compare sets.
  package enum Comparison: String, Codable, CaseIterable, Sendable {
    case equal = "="
    case notEqual = "!="
    case less = "<"
    case greater = ">"
    case lessOrEqual = "<="
    case greaterOrEqual = ">="
    case setEqual = "{=}"
    case setNotEqual = "{!=}"
    case subset = "{<=}"
    case superset = "{>=}"
    case properSubset = "{<}"
    case properSuperset = "{>}"
    case elementOf = "{in}"
    case notElementOf = "{not-in}"
  }
}
