internal import FlyingFox
private import Foundation
private import OVXControl
private import OVXDatapath

/// The paths that are served.
struct Service: HTTPHandler {
  private let reader: SwitchReader

  init(_ reader: SwitchReader) { self.reader = reader }

  func handleRequest(_ request: HTTPRequest) async throws -> HTTPResponse {
    switch request.path {
    case "/healthz": return text("ok\n")
    case "/readyz":
      switch await reader.state() {
      case .success: return text("ok\n")
      case .failure(let error): return text(error.message + "\n", .serviceUnavailable)
      }
    case "/metrics": return await metrics(request)
    default: break
    }
    // A page of elsewhere must not read this one by a name of its own that leads here.
    guard Self.isForThisHost(request.headers[.host]) else {
      return text("ask for localhost, or for an address\n", .forbidden)
    }
    do {
      switch request.path {
      case "/": return page()
      case "/api/state": return try json(await reader.state().get())
      case "/api/addresses":
        return try json(await reader.places(of: request.query["find"] ?? ""))
      case "/api/trace":
        return try json(
          await reader.trace(from: request.query["port"] ?? "", request.query["frame"] ?? ""))
      default: return text("there is nothing here\n", .notFound)
      }
    } catch let error as ControlError {
      return try json(
        ["error": error.message], error.kind == .refused ? .badRequest : .serviceUnavailable)
    }
  }

  /// Whether a `Host` header names this host in a way that nobody else can make their own.
  static func isForThisHost(_ header: String?) -> Bool {
    guard let header else { return false }
    let host: Substring
    if header.hasPrefix("[") {
      host = header.dropFirst().prefix { $0 != "]" }
    } else {
      host = header.prefix { $0 != ":" }
    }
    return host == "localhost" || IPAddress(String(host)) != nil
  }

  private func metrics(_ request: HTTPRequest) async -> HTTPResponse {
    let format: Exposition.Format =
      request.headers[.accept]?.contains("application/openmetrics-text") == true
      ? .openMetrics : .prometheus
    let state = await reader.state()
    return HTTPResponse(
      statusCode: .ok, headers: [.contentType: format.contentType],
      body: Data(Exposition(of: state, format).text.utf8))
  }

  private func page() -> HTTPResponse {
    HTTPResponse(
      statusCode: .ok,
      headers: [
        .contentType: "text/html; charset=utf-8", .cacheControl: "no-store",
        HTTPHeader("Content-Security-Policy"):
          "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
          + "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        HTTPHeader("X-Content-Type-Options"): "nosniff",
        HTTPHeader("Referrer-Policy"): "no-referrer",
      ],
      body: Data(PackageResources.page_html))
  }

  private func json(
    _ value: some Encodable, _ status: HTTPStatusCode = .ok
  ) throws -> HTTPResponse {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return HTTPResponse(
      statusCode: status,
      headers: [
        .contentType: "application/json", .cacheControl: "no-store",
        HTTPHeader("X-Content-Type-Options"): "nosniff",
      ], body: try encoder.encode(value))
  }

  private func text(_ text: String, _ status: HTTPStatusCode = .ok) -> HTTPResponse {
    HTTPResponse(
      statusCode: status, headers: [.contentType: "text/plain; charset=utf-8"],
      body: Data(text.utf8))
  }
}

extension HTTPHeader {
  fileprivate static let accept = HTTPHeader("Accept")
}
