private import FoundationEssentials

/// A response on its way to a client, made a piece at a time as the client takes it.
///
/// What it comes to, byte for byte, is the one line that `Response.messageBytes` makes at once; but
/// a table of any length costs, at any moment, a piece and what the table itself takes, and nobody
/// else waits for longer than a piece takes to make.
package struct AnswerStream {
  /// Elements that are encoded at a time.
  package static let pieceLength = 128

  /// A part of the line.
  package enum Part {
    case bytes([UInt8])
    /// Elements of an array, with commas between them: how many, bytes of memory held for them, and
    /// the encoded ones of a range.
    case elements(count: Int, cost: Int, encode: (Range<Int>) throws -> [UInt8])
    /// What has its turn later on is put together when it has.
    case later(() throws -> [Part])
  }

  /// What is still to come, the next part last.
  private var rest: [Part]
  /// Elements of the next part that have been handed out.
  private var position = 0
  private var length = 0
  /// Why nothing was done, where that is what it says.
  package private(set) var failure: ControlError?

  /// A response that is there as a whole.
  package init(_ response: Response) {
    switch response.outcome {
    case .failed(let error):
      self.init(rest: [.later { [.bytes(try response.messageBytes())] }])
      failure = error
    case .done(let replies): self.init(replies.map { Part.reply($0) }, notes: response.notes)
    }
  }

  /// A response that tells of success.
  ///
  /// - Parameters:
  ///   - replies: One for each command.
  ///   - notes: Sentences that the operator should read.
  package init(_ replies: [Part], notes: [String]) {
    // The notes are made fit for that in the response.
    let empty = Response(.done([]), notes: notes)
    self.init(rest: [
      .later {
        [.bytes(Array("{\"notes\":".utf8) + (try Self.encode(empty.notes)))]
          + [.bytes(Array(",\"outcome\":{\"done\":{\"_0\":[".utf8))]
          + Part.joined(replies)
          + [.bytes(Array("]}},\"version\":\(empty.version)}\n".utf8))]
      }
    ])
  }

  private init(rest: [Part]) {
    self.rest = rest
  }

  /// About how many bytes of memory it holds.
  package var cost: Int {
    rest.reduce(0) { sum, part in
      switch part {
      case .bytes(let bytes): sum + bytes.count
      case .elements(_, let cost, _): sum + cost
      case .later: sum
      }
    }
  }

  /// The next bytes of the line; `nil` behind its end.
  ///
  /// - Throws: That it cannot be encoded, or has become longer than the client takes, which is to
  ///   be told that by cutting it off: its beginning has been sent.
  package mutating func next() throws(ControlError) -> [UInt8]? {
    var piece: [UInt8] = []
    do {
      // Short parts go together.
      while piece.count < 4096, let part = rest.popLast() {
        switch part {
        case .bytes(let bytes):
          piece += bytes
        case .later(let make):
          rest += try make().reversed()
          // It may have taken a while, and what it holds is to be counted.
          if !piece.isEmpty { return try counted(piece) }
        case .elements(let count, _, let encode):
          let range = position..<min(count, position + Self.pieceLength)
          if !range.isEmpty {
            if position > 0 { piece.append(UInt8(ascii: ",")) }
            piece += try encode(range)
          }
          position = range.upperBound
          if position < count { rest.append(part) } else { position = 0 }
        }
      }
    } catch {
      throw error as? ControlError ?? ControlError("an answer cannot be encoded: \(error)")
    }
    return piece.isEmpty ? nil : try counted(piece)
  }

  private mutating func counted(_ piece: [UInt8]) throws(ControlError) -> [UInt8] {
    // Up to the first byte that is too much: from that one the client knows.
    guard length <= MessageDecoder<Response>.byteLimit else {
      throw ControlError("the answer has more than \(MessageDecoder<Response>.byteLimit) bytes")
    }
    length += piece.count
    return piece
  }

  fileprivate static func encode(_ value: some Encodable) throws -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return try [UInt8](encoder.encode(value))
  }
}

extension AnswerStream.Part {
  /// Any reply; one that is a table of records a few at a time.
  package static func reply(_ reply: Reply) -> Self {
    .later {
      switch reply {
      case .records(let list):
        try Self.reply(
          "records",
          [
            .bytes(
              Array("{\"columns\":".utf8) + AnswerStream.encode(list.columns)
                + Array(",\"rows\":[".utf8))
          ]
            + [.list(list.rows, costEach: 64 * list.columns.count)] + [.bytes(Array("]}".utf8))])
      case .show(let show): try Self.reply("show", parts(of: show))
      case .links(let links): Self.reply("links", array(links))
      case .names(let names): Self.reply("names", array(names))
      case .values(let values): Self.reply("values", array(values))
      case .statistics(let ports): Self.reply("statistics", array(ports))
      case .drops(let drops): Self.reply("drops", array(drops))
      case .changes(let changes): Self.reply("changes", array(changes))
      default: [.bytes(try AnswerStream.encode(reply))]
      }
    }
  }

  /// A reply whose value is given in parts.
  package static func reply(_ name: String, _ value: [Self]) -> [Self] {
    [.bytes(Array("{\"\(name)\":{\"_0\":".utf8))] + value + [.bytes(Array("}}".utf8))]
  }

  /// An array of elements that are there.
  package static func array(_ elements: [some Encodable]) -> [Self] {
    [.bytes([UInt8(ascii: "[")]), list(elements, costEach: 128), .bytes([UInt8(ascii: "]")])]
  }

  /// An array of objects that are the same but for their elements, such as bridges with their
  /// tables.
  ///
  /// - Parameters:
  ///   - names: Of the bridges.
  ///   - entries: What one has, put together when its turn has come.
  /// - Returns: The array's parts, brackets included.
  package static func tables(
    of names: [String], entries: @escaping (String) throws -> Self
  ) -> [Self] {
    [.bytes([UInt8(ascii: "[")])]
      + joined(
        names.map { name in
          .later {
            [
              .bytes(
                Array("{\"bridge\":".utf8) + (try AnswerStream.encode(name))
                  + Array(",\"entries\":[".utf8)),
              try entries(name), .bytes(Array("]}".utf8)),
            ]
          }
        })
      + [.bytes([UInt8(ascii: "]")])]
  }

  /// Elements that are made of something smaller when their turn has come.
  ///
  /// - Parameters:
  ///   - sources: What they are made of.
  ///   - make: Makes one.
  /// - Returns: The elements, without brackets.
  package static func list<Source, Element: Encodable>(
    of sources: [Source], _ make: @escaping (Source) -> Element
  ) -> Self {
    .elements(count: sources.count, cost: sources.count * MemoryLayout<Source>.stride) { range in
      try elements(sources[range].map(make))
    }
  }

  /// Parts with commas between them.
  static func joined(_ parts: [Self]) -> [Self] {
    var result: [Self] = []
    for part in parts {
      if !result.isEmpty { result.append(.bytes([UInt8(ascii: ",")])) }
      result.append(part)
    }
    return result
  }

  private static func list(_ sources: [some Encodable], costEach: Int) -> Self {
    .elements(count: sources.count, cost: sources.count * costEach) {
      try elements(Array(sources[$0]))
    }
  }

  private static func elements(_ elements: [some Encodable]) throws -> [UInt8] {
    [UInt8](try AnswerStream.encode(elements).dropFirst().dropLast())
  }

  private static func parts(of show: Show) throws -> [Self] {
    let bridges = try show.bridges.map { bridge -> Self in
      let name = try AnswerStream.encode(bridge.name)
      return .later {
        // Members are in the order of their names.
        let gateways = bridge.gateways.map { gateways in
          [.bytes(Array("\"gateways\":".utf8))] + array(gateways) + [.bytes([UInt8(ascii: ",")])]
        }
        return [.bytes([UInt8(ascii: "{")])] + (gateways ?? [])
          + [.bytes(Array("\"name\":".utf8) + name + Array(",\"ports\":".utf8))]
          + array(bridge.ports) + [.bytes([UInt8(ascii: "}")])]
      }
    }
    return [.bytes(Array("{\"bridges\":[".utf8))] + joined(bridges)
      + [
        .bytes(
          Array("],\"version\":".utf8) + (try AnswerStream.encode(show.version)) + Array("}".utf8))
      ]
  }
}
