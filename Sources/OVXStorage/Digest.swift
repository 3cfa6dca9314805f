internal import GRDB

/// 128 bits by which a content is known again: the sum of the hashes of its rows, each SipHash-2-4
/// with 128 bits of output.
///
/// A sum, so that a change of one row costs one row. It is made to notice accidents, of which none
/// goes unnoticed but by a chance of 2^-128; whoever wants to deceive the daemon can write its file
/// anyway.
struct Digest: Equatable {
  private(set) var low: UInt64 = 0
  private(set) var high: UInt64 = 0

  init() {}

  /// Hashes bytes.
  ///
  /// The key is of the algorithm's two words, little-endian each; the reference's test vectors have
  /// 0 to 15 for its bytes.
  init(hashing bytes: [UInt8], key: (UInt64, UInt64) = (0, 0)) {
    var v0 = key.0 ^ 0x736F_6D65_7073_6575
    var v1 = key.1 ^ 0x646F_7261_6E64_6F6D ^ 0xEE
    var v2 = key.0 ^ 0x6C79_6765_6E65_7261
    var v3 = key.1 ^ 0x7465_6462_7974_6573
    func rounds(_ count: Int) {
      for _ in 0..<count {
        v0 &+= v1
        v2 &+= v3
        v1 = v1 << 13 | v1 >> 51
        v3 = v3 << 16 | v3 >> 48
        v1 ^= v0
        v3 ^= v2
        v0 = v0 << 32 | v0 >> 32
        v2 &+= v1
        v0 &+= v3
        v1 = v1 << 17 | v1 >> 47
        v3 = v3 << 21 | v3 >> 43
        v1 ^= v2
        v3 ^= v0
        v2 = v2 << 32 | v2 >> 32
      }
    }
    func take(_ word: UInt64) {
      v3 ^= word
      rounds(2)
      v0 ^= word
    }
    var word: UInt64 = 0
    for (index, byte) in bytes.enumerated() {
      word |= UInt64(byte) << UInt64(index % 8 * 8)
      if index % 8 == 7 {
        take(word)
        word = 0
      }
    }
    take(word | UInt64(truncatingIfNeeded: bytes.count) << 56)
    v2 ^= 0xEE
    rounds(4)
    low = v0 ^ v1 ^ v2 ^ v3
    v1 ^= 0xDD
    rounds(4)
    high = v0 ^ v1 ^ v2 ^ v3
  }

  static func += (sum: inout Digest, other: Digest) {
    sum.low &+= other.low
    sum.high &+= other.high
  }

  static func -= (sum: inout Digest, other: Digest) {
    sum.low &-= other.low
    sum.high &-= other.high
  }

  /// As it stands in the database: 32 hexadecimal digits.
  var text: String {
    func digits(_ word: UInt64) -> String {
      let text = String(word, radix: 16)
      return String(repeating: "0", count: 16 - text.count) + text
    }
    return digits(high) + digits(low)
  }
}

extension Digest {
  /// Hashes a row of a table by the names of its columns, whatever their order.
  init(of table: String, _ values: some Sequence<(key: String, value: DatabaseValue)>) {
    var bytes: [UInt8] = []
    func octets(_ word: UInt64) -> [UInt8] {
      (0..<8).map { UInt8(truncatingIfNeeded: word >> ($0 * 8)) }
    }
    func add(_ kind: UInt8, _ content: some Collection<UInt8>) {
      bytes.append(kind)
      bytes += octets(UInt64(content.count))
      bytes += content
    }
    add(0, table.utf8)
    for (name, value) in values.sorted(by: { $0.key < $1.key }) {
      add(1, name.utf8)
      switch value.storage {
      case .null: add(2, [])
      case .int64(let number): add(3, octets(UInt64(bitPattern: number)))
      case .double(let number): add(4, octets(number.bitPattern))
      case .string(let text): add(5, text.utf8)
      case .blob(let data): add(6, data)
      }
    }
    self.init(hashing: bytes)
  }

  /// Hashes all that a database holds: the tables' rows, their definitions, and the number that is
  /// the user's.
  ///
  /// Not what the digest itself stands in. It knows no table by name, so a later version's
  /// databases have theirs as well.
  init(contentOf database: GRDB.Database) throws {
    self = try Digest(definitionsIn: database)
    let tables = try String.fetchAll(
      database,
      sql: "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'digest'"
        + " AND name NOT LIKE 'sqlite~_%' ESCAPE '~'")
    for table in tables { self += try Digest(rowsOf: table, in: database) }
  }

  /// Hashes the rows of one table.
  init(rowsOf table: String, in database: GRDB.Database) throws {
    let rows = try Row.fetchCursor(database, sql: "SELECT * FROM \(table.quotedDatabaseIdentifier)")
    while let row = try rows.next() {
      self += Digest(of: table, row.map { (key: $0.0, value: $0.1) })
    }
  }

  private init(definitionsIn database: GRDB.Database) throws {
    let rows = try Row.fetchCursor(
      database, sql: "SELECT type, name, tbl_name, sql FROM sqlite_master")
    while let row = try rows.next() {
      self += Digest(of: "sqlite_master", row.map { (key: $0.0, value: $0.1) })
    }
    let number = try Int.fetchOne(database, sql: "PRAGMA user_version") ?? 0
    self += Digest(of: "user_version", [(key: "user_version", value: number.databaseValue)])
  }

  /// The digest that stands in a database; `nil` where there is none.
  static func stored(in database: GRDB.Database) throws -> String? {
    guard try database.tableExists("digest") else { return nil }
    return try String.fetchOne(database, sql: "SELECT value FROM digest")
  }

  /// Writes the digest into a database.
  func store(in database: GRDB.Database) throws {
    try database.execute(
      sql:
        "INSERT INTO digest (id, value) VALUES (0, ?) ON CONFLICT (id) DO UPDATE SET value = excluded.value",
      arguments: [text])
  }
}
