import OVXSimulation
import Testing

@testable import ovx_exporter

@Suite struct HTTPListenerTests {
  private func head(_ text: String) -> RequestHead? {
    let bytes = Array(text.utf8)
    return RequestHead.end(of: bytes, from: 0).flatMap { RequestHead(Array(bytes[..<$0])) }
  }

  @Test(arguments: ["\r\n", "\n"])
  func reading(_ lineEnd: String) throws {
    let lines = [
      "GET /api/trace?port=p1 HTTP/1.1", "HOST: localhost:9475", "Accept:a/b", "X: one", "x: two ",
    ]
    let read = try #require(head(lines.map { $0 + lineEnd }.joined() + lineEnd + "a body"))
    #expect(read.method == "GET" && read.target == "/api/trace?port=p1")
    #expect(read.fields == ["host": "localhost:9475", "accept": "a/b", "x": "two"])
  }

  @Test(arguments: [
    "", "GET\n\n", "GET / \n\n", "GET /\n\n", "GET / SPDY/3\n\n", " / HTTP/1.1\n\n",
    "GET  HTTP/1.1\n\n",
    "GET / HTTP/1.1 x\n\n", "GET / HTTP/1.1\nno colon\n\n", "GET / HTTP/1.1\nHost: a\nhost: b\n\n",
    "GET / HTTP/1.1\n", "GET / HTTP/1.1\r\nHost: a\r\n\r",
    "GET /" + String(repeating: "a", count: 8192) + " HTTP/1.1\n\n",
  ])
  func whatIsNoRequest(_ text: String) {
    #expect(head(text) == nil)
  }

  /// The end is found wherever the pieces are cut in which a head comes.
  @Test func theEndIsFoundInPieces() {
    let whole = Array("GET / HTTP/1.1\r\nHost: a\r\n\r\nrest".utf8)
    let end = RequestHead.end(of: whole, from: 0)
    #expect(end == 24)
    for cut in whole.indices {
      let early = RequestHead.end(of: Array(whole[..<cut]), from: 0)
      #expect(early == nil || early == end)
      #expect((early ?? RequestHead.end(of: whole, from: max(0, cut - 3))) == end, "cut at \(cut)")
    }
  }

  @Test func anyBytes() {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("anyBytes: seed \(seed)")
    var random = SeededRandom(seed: seed)
    for _ in 0..<2000 {
      let alphabet = Array("GET / HTTP/1.1\r\n:a\u{0}\u{FF}".utf8)
      let bytes = (0..<Int.random(in: 0...80, using: &random)).map { _ in
        alphabet.randomElement(using: &random) ?? 0
      }
      if let end = RequestHead.end(of: bytes, from: 0) { _ = RequestHead(Array(bytes[..<end])) }
      _ = RequestHead(bytes)
    }
  }
}
