private import FlyingFox
private import FlyingSocks
private import Foundation

/// Takes connections, and one request from each.
///
/// FlyingFox's own server has no bounds: it reads a line to its end however long it is, in time
/// that grows with the square, and waits for a silent client for ever, so that whoever reaches the
/// port could take a core. So reading is done here, with FlyingFox's types and sockets.
struct HTTPListener {
  /// Bytes of a request's line and header fields together.
  static let headLimit = 8192
  /// Connections at a time; more wait until one of these has ended.
  static let connectionLimit = 32

  private let socket: AsyncSocket
  private let pool: any AsyncSocketPool

  /// - Throws: `SocketError` where the address cannot be listened at.
  init(_ address: ListenAddress) async throws {
    pool = HTTPServer.defaultPool()
    try await pool.prepare()
    let isIPv6 = address.host.contains(":")
    let socket = try Socket(domain: isIPv6 ? AF_INET6 : AF_INET)
    try socket.setValue(true, for: .localAddressReuse)
    if isIPv6 {
      try socket.bind(to: .inet6(ip6: address.host, port: address.port))
    } else {
      try socket.bind(to: .inet(ip4: address.host, port: address.port))
    }
    try socket.listen()
    self.socket = try AsyncSocket(socket: socket, pool: pool)
  }

  /// Answers until the sockets fail.
  func run(_ service: Service) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await pool.run() }
      group.addTask { try await answer(by: service) }
      try await group.next()
      group.cancelAll()
    }
  }

  private func answer(by service: Service) async throws {
    try await withThrowingTaskGroup(of: Void.self) { connections in
      var count = 0
      while true {
        let client: AsyncSocket
        do { client = try await socket.accept() } catch {
          // One that has gone before its turn is no reason to end (accept(2), "Error handling").
          try await Task.sleep(for: .milliseconds(100))
          continue
        }
        if count == Self.connectionLimit {
          try await connections.next()
          count -= 1
        }
        count += 1
        connections.addTask { await Self.answer(client, by: service) }
      }
    }
  }

  /// Reads a request and answers it, in ten seconds or not at all.
  private static func answer(_ client: AsyncSocket, by service: Service) async {
    await withTaskGroup(of: Void.self) { group in
      group.addTask {
        // Who hangs up, or sends nothing more, is not answered.
        guard let head = try? await head(from: client) else { return }
        let response = await response(to: head, by: service)
        try? await client.write(response)
      }
      group.addTask { try? await Task.sleep(for: .seconds(10)) }
      await group.next()
      group.cancelAll()
    }
    try? client.close()
  }

  /// The bytes of a request before the empty line; as many as there may be where it does not come.
  private static func head(from client: AsyncSocket) async throws -> [UInt8] {
    var head: [UInt8] = []
    while head.count < headLimit {
      let known = head.count
      head += try await client.read(atMost: headLimit - known)
      if let end = RequestHead.end(of: head, from: max(0, known - 3)) { return Array(head[..<end]) }
    }
    return head
  }

  private static func response(to head: [UInt8], by service: Service) async -> Data {
    let response: HTTPResponse
    if let head = RequestHead(head) {
      response = await service.response(to: head)
    } else {
      response = HTTPResponse(statusCode: .badRequest)
    }
    let body = (try? await response.bodyData) ?? Data()
    var text = "HTTP/1.1 \(response.statusCode.code) \(response.statusCode.phrase)\r\n"
    for (name, value) in response.headers { text += "\(name.rawValue): \(value)\r\n" }
    text += "Content-Length: \(body.count)\r\nConnection: close\r\n\r\n"
    return Data(text.utf8) + body
  }
}

/// What a request says before its body, which none has that is answered here.
struct RequestHead: Equatable {
  var method: String
  /// With its query, as it was sent.
  var target: String
  /// Values by names in small letters, the last of several.
  var fields: [String: String] = [:]

  /// Where the empty line behind a head begins, if it is there (RFC 9112, section 2.2, also with
  /// bare line feeds).
  static func end(of bytes: [UInt8], from start: Int) -> Int? {
    let lineFeed = UInt8(ascii: "\n")
    for index in bytes.indices.dropFirst(start) where bytes[index] == lineFeed {
      let next = bytes[(index + 1)...].prefix(2)
      if next.first == lineFeed || next.elementsEqual("\r\n".utf8) { return index }
    }
    return nil
  }

  /// `nil` for what is no request of HTTP/1, or not whole.
  init?(_ bytes: [UInt8]) {
    guard bytes.count < HTTPListener.headLimit else { return nil }
    var lines = bytes.split(separator: UInt8(ascii: "\n")).map { line in
      line.last == UInt8(ascii: "\r") ? line.dropLast() : line
    }[...]
    guard let first = lines.popFirst() else { return nil }
    let words = first.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
      .map { String(decoding: $0, as: UTF8.self) }
    guard words.count == 3, words[2].hasPrefix("HTTP/1."), !words[0].isEmpty, !words[1].isEmpty
    else { return nil }
    (method, target) = (words[0], words[1])
    for line in lines {
      guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else { return nil }
      let name = String(decoding: line[..<colon], as: UTF8.self).lowercased()
      // Two of them are somebody's attempt to be taken for two (RFC 9112, section 3.2).
      if name == "host", fields[name] != nil { return nil }
      fields[name] = String(decoding: line[(colon + 1)...], as: UTF8.self)
        .trimmingCharacters(in: .whitespaces)
    }
  }
}
