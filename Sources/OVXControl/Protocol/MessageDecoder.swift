private import FoundationEssentials

/// Takes a byte stream apart into messages, each one line of JSON.
///
/// It is fed whatever a read returned, from one byte to many messages, and bounds what it keeps: a
/// peer that sends a line without an end is refused once the line is longer than a message may be.
package struct MessageDecoder<Message: Decodable> {
  /// Bytes of one message at most, the newline not counted.
  package let limit: Int
  private var pending: [UInt8] = []
  /// Bytes at the front of `pending` that have been handed out.
  private var consumed = 0
  /// Bytes at the front of `pending` in which there is no newline left to find.
  private var searched = 0

  /// Bytes of the message that was handed out last.
  package private(set) var messageLength = 0

  package init(limit: Int) {
    self.limit = limit
  }

  /// Adds received bytes; `next()` takes messages out until it returns `nil`.
  package mutating func append(_ bytes: some Sequence<UInt8>) {
    if consumed > 0 {
      pending.removeSubrange(..<consumed)
      searched -= consumed
      consumed = 0
    }
    pending.append(contentsOf: bytes)
  }

  /// The next whole message, or `nil` where more bytes are needed.
  ///
  /// - Throws: That the line is too long, or is no message; the stream is of no use afterwards.
  package mutating func next() throws(ControlError) -> Message? {
    let newline = pending[searched...].firstIndex(of: UInt8(ascii: "\n"))
    let end = newline ?? pending.count
    guard end - consumed <= limit else {
      throw ControlError("a message on the control socket is longer than \(limit) bytes")
    }
    guard newline != nil else {
      searched = pending.count
      return nil
    }
    let line = Data(pending[consumed..<end])
    messageLength = line.count
    consumed = end + 1
    searched = consumed
    // Whoever waits for the next message is not to hold the memory of the last one.
    if consumed == pending.count { (pending, consumed, searched) = ([], 0, 0) }
    do {
      return try JSONDecoder().decode(Message.self, from: line)
    } catch let error as ControlError {
      throw error
    } catch {
      throw ControlError("a message on the control socket is not understood: \(explain(error))")
    }
  }

  /// What follows the last message, and is none.
  package mutating func takeRest() -> [UInt8] {
    defer { (pending, consumed, searched) = ([], 0, 0) }
    return Array(pending[consumed...])
  }

  /// Bytes that have arrived and were not handed out.
  package var pendingCount: Int { pending.count - consumed }

  /// Whether part of a message has arrived: a stream that ends now was cut off.
  package var isMidMessage: Bool { consumed < pending.count }
}

extension MessageDecoder<Request> {
  /// A request has 1 MiB at most.
  package static var byteLimit: Int { 1 << 20 }

  /// A decoder for the daemon's end.
  package init() {
    self.init(limit: Self.byteLimit)
  }
}

extension MessageDecoder<Response> {
  /// A response has 64 MiB at most.
  package static var byteLimit: Int { 64 << 20 }

  /// A decoder for the client's end.
  package init() {
    self.init(limit: Self.byteLimit)
  }
}

extension Request {
  /// The request as one line of JSON, members in alphabetical order, with its newline.
  package func messageBytes() throws(ControlError) -> [UInt8] { try encodeMessage(self) }
}

extension Response {
  /// The response as one line of JSON, members in alphabetical order, with its newline.
  ///
  /// - Throws: That it is longer than the client takes; the daemon answers with that instead.
  package func messageBytes() throws(ControlError) -> [UInt8] {
    let bytes = try encodeMessage(self)
    guard bytes.count - 1 <= MessageDecoder<Response>.byteLimit else {
      throw ControlError(
        "the answer has \(bytes.count) bytes, and ovx-ctl takes \(MessageDecoder<Response>.byteLimit); "
          + "ask for less at a time"
      )
    }
    return bytes
  }
}

extension WatchEvent {
  /// The event as one line of JSON, members in alphabetical order, with its newline.
  ///
  /// - Throws: That it cannot be encoded.
  package func messageBytes() throws(ControlError) -> [UInt8] { try encodeMessage(self) }
}

private func encodeMessage(_ message: some Encodable) throws(ControlError) -> [UInt8] {
  do {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return try [UInt8](encoder.encode(message)) + [UInt8(ascii: "\n")]
  } catch {
    throw ControlError("a message cannot be encoded: \(error)")
  }
}

/// Says where in a message the decoder stopped, in one sentence's part.
private func explain(_ error: any Error) -> String {
  guard let error = error as? DecodingError else { return "\(error)" }
  let context: DecodingError.Context
  switch error {
  case .typeMismatch(_, let found): context = found
  case .valueNotFound(_, let found): context = found
  case .keyNotFound(let key, let found):
    return "\"\(key.stringValue)\" is missing" + place(found)
  case .dataCorrupted(let found): context = found
  @unknown default: return "\(error)"
  }
  return context.debugDescription + place(context)
}

private func place(_ context: DecodingError.Context) -> String {
  let path = context.codingPath.map(\.stringValue).joined(separator: ".")
  return path.isEmpty ? "" : " at \"\(path)\""
}
