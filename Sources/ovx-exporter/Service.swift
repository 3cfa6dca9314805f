internal import FlyingFox
private import Foundation
private import OVXControl
private import OVXDatapath

/// The paths that are served.
struct Service {
  private let reader: SwitchReader

  init(_ reader: SwitchReader) { self.reader = reader }

  /// Answers a request, whatever it is for.
  func response(to request: RequestHead) async -> HTTPResponse {
    guard request.method == "GET" else {
      var response = text("GET is all that is answered\n", .methodNotAllowed)
      response.headers[HTTPHeader("Allow")] = "GET"
      return response
    }
    let target = URLComponents(string: request.target)
    let path = target?.path
    func query(_ name: String) -> String {
      target?.queryItems?.first { $0.name == name }?.value ?? ""
    }
    switch path {
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
    guard Self.isForThisHost(request.fields["host"]) else {
      return text("ask for localhost, or for an address\n", .forbidden)
    }
    do {
      switch path {
      case "/": return page()
      case "/api/state": return try json(await reader.state().get())
      case "/api/addresses": return try json(await reader.places(of: query("find")))
      case "/api/trace":
        return try json(await reader.trace(from: query("port"), query("frame")))
      default: return text("there is nothing here\n", .notFound)
      }
    } catch let error as ControlError {
      let status: HTTPStatusCode =
        error.kind == .refused ? .badRequest : .serviceUnavailable
      return (try? json(["error": error.message], status)) ?? text(error.message, status)
    } catch {
      return text("\(error)\n", .internalServerError)
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

  private func metrics(_ request: RequestHead) async -> HTTPResponse {
    let format: Exposition.Format =
      request.fields["accept"]?.contains("application/openmetrics-text") == true
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
