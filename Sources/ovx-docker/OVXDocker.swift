internal import ArgumentParser
private import FlyingFox
private import FlyingSocks
private import Foundation
private import Glibc
internal import OVXControl

/// Docker's network driver: listens where dockerd looks for drivers, and asks the switch.
@main
struct OVXDocker: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ovx-docker",
    abstract: "Docker's network driver for networks of ovx.",
    discussion: """
      Started beside dockerd and ovx-vswitchd, it is the driver ovx of this host's Docker:

        docker network create -d ovx -o network=red --ipam-driver ovx --ipam-opt network=red red
        docker network create -d ovx -o vni=300 --subnet 10.3.0.0/24 --ip-range 10.3.0.16/28 green
        docker run --network red IMAGE
        docker run --network red -p 8080:80 IMAGE

      The first uses a network that "ovx-ctl add-net" has made, and its addresses. The second makes one of its own, and \
      Docker hands out the addresses: hosts that share the subnet are each given an --ip-range of their own, and no two \
      networks of a host can have the same subnet. Ports are published by the network's gateway, which ovx-gatewayd makes.
      """,
    version: OVXVersion.current)

  @Option(help: "The socket; its name without .sock is the driver's.")
  var socket = "/run/docker/plugins/ovx.sock"

  @Option(help: "The run directory of the daemon (default: OVX_RUNDIR, or /run/ovx).")
  var rundir = ProcessInfo.processInfo.environment["OVX_RUNDIR"] ?? "/run/ovx"

  static func main() { ProcessStart.serve { await main($0) } }

  func run() async throws {
    try prepareSocket()
    let connection = SwitchConnection(ControlClient(runDirectory: rundir))
    let server = HTTPServer(address: .unix(path: socket), timeout: 30, logger: .disabled)
    await server.appendRoute("POST *", to: Service(connection))
    try await server.run()
  }

  /// Makes room for the socket, which only root may use, and takes away what a killed driver has
  /// left.
  private func prepareSocket() throws {
    umask(0o177)
    let directory = URL(fileURLWithPath: socket).deletingLastPathComponent()
    try FileManager.default.createDirectory(
      at: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
    if (try? Socket.connected(to: socket)) == true {
      throw ValidationError(
        "another ovx-docker listens on \(socket); end it, or name another --socket")
    }
    unsafe unlink(socket)
  }
}

extension Socket {
  /// Whether somebody listens on a socket.
  fileprivate static func connected(to path: String) throws -> Bool {
    let socket = try Socket(domain: AF_UNIX)
    defer { try? socket.close() }
    try socket.connect(to: .unix(path: path))
    return true
  }
}

/// The calls of libnetwork, each a path.
private struct Service: HTTPHandler {
  /// Bytes of a request at most: one names a network or an endpoint.
  private static let limit = 1 << 20

  private let driver: NetworkDriver
  private let addresses: AddressDriver

  init(_ connection: SwitchConnection) {
    driver = NetworkDriver(connection)
    addresses = AddressDriver(connection)
  }

  func handleRequest(_ request: HTTPRequest) async throws -> HTTPResponse {
    var bytes: [UInt8] = []
    for try await chunk in request.bodySequence {
      bytes += chunk
      guard bytes.count <= Self.limit else {
        return try response(.badRequest, ErrorResponse("the request is too long"))
      }
    }
    do {
      guard let answer = try answer(to: request.path, bytes) else {
        return HTTPResponse(statusCode: .notFound)
      }
      return try response(.ok, answer)
    } catch let error as ControlError {
      return try response(.ok, ErrorResponse("ovx: \(error.message)"))
    } catch {
      return try response(
        .badRequest, ErrorResponse("ovx: this is no request of libnetwork: \(error)"))
    }
  }

  /// What a call answers; `nil` for an unknown one.
  private func answer(to path: String, _ bytes: [UInt8]) throws -> (any Encodable)? {
    switch path {
    case "/Plugin.Activate": return ActivateResponse()
    case "/NetworkDriver.GetCapabilities": return CapabilitiesResponse()
    case "/NetworkDriver.CreateNetwork": try driver.createNetwork(Messages.decode(bytes))
    case "/NetworkDriver.DeleteNetwork": try driver.deleteNetwork(Messages.decode(bytes))
    case "/NetworkDriver.CreateEndpoint":
      let address = try driver.createEndpoint(Messages.decode(bytes))
      return CreateEndpointResponse(interface: address.map { .init(macAddress: $0) })
    case "/NetworkDriver.EndpointOperInfo": return OperationalInfoResponse()
    case "/NetworkDriver.Join": return try driver.join(Messages.decode(bytes))
    case "/NetworkDriver.DeleteEndpoint": try driver.deleteEndpoint(Messages.decode(bytes))
    case "/NetworkDriver.ProgramExternalConnectivity":
      try driver.publish(Messages.decode(bytes))
    case "/NetworkDriver.RevokeExternalConnectivity":
      try driver.unpublish(Messages.decode(bytes))
    case "/IpamDriver.GetCapabilities": return AddressCapabilitiesResponse()
    case "/IpamDriver.GetDefaultAddressSpaces": return AddressSpacesResponse()
    case "/IpamDriver.RequestPool": return try addresses.requestPool(Messages.decode(bytes))
    case "/IpamDriver.RequestAddress":
      return AddressResponse(address: try addresses.requestAddress(Messages.decode(bytes)))
    case "/IpamDriver.ReleaseAddress": try addresses.releaseAddress(Messages.decode(bytes))
    case "/IpamDriver.ReleasePool", "/NetworkDriver.Leave", "/NetworkDriver.DiscoverNew",
      "/NetworkDriver.DiscoverDelete":
      break
    default: return nil
    }
    return EmptyResponse()
  }

  private func response(
    _ status: HTTPStatusCode, _ message: some Encodable
  ) throws -> HTTPResponse {
    HTTPResponse(
      statusCode: status,
      headers: [.contentType: "application/vnd.docker.plugins.v1.1+json"],
      body: Data(try Messages.encode(message)))
  }
}
