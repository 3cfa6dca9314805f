// What dockerd's libnetwork and a remote network driver say to each other
// (https://github.com/moby/moby/blob/v20.10.24/libnetwork/docs/remote.md and its package
// drivers/remote/api), as JSON by HTTP on a socket. Members that the driver has no use for are left
// out. On the wire names begin with a capital letter (`Messages`).

private import Foundation

/// JSON with names as libnetwork has them: their first letter is a capital one.
enum Messages {
  static func decode<Message: Decodable>(_ bytes: [UInt8]) throws -> Message {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .custom { Key($0.last, first: { $0.lowercased() }) }
    return try decoder.decode(Message.self, from: Data(bytes))
  }

  static func encode(_ message: some Encodable) throws -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.keyEncodingStrategy = .custom { Key($0.last, first: { $0.uppercased() }) }
    return [UInt8](try encoder.encode(message))
  }

  /// A name with another first letter.
  private struct Key: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }

    init(_ key: (any CodingKey)?, first: (String) -> String) {
      let name = key?.stringValue ?? ""
      stringValue = first(String(name.prefix(1))) + name.dropFirst()
    }
    init?(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }
}

/// `NetworkDriver.CreateNetwork`.
struct CreateNetworkRequest: Decodable {
  var networkID: String
  var options: Options?
  var ipv4Data: [Pool]?
  var ipv6Data: [Pool]?

  enum CodingKeys: String, CodingKey {
    case networkID, options
    case ipv4Data = "iPv4Data"
    case ipv6Data = "iPv6Data"
  }

  struct Options: Decodable {
    /// What was typed behind `-o`.
    var generic: [String: String]?

    enum CodingKeys: String, CodingKey {
      case generic = "com.docker.network.generic"
    }
  }

  /// What Docker's own address management has chosen, or `--subnet` and `--gateway` have asked for.
  struct Pool: Decodable {
    /// ADDRESS/LENGTH.
    var pool: String?
    /// ADDRESS/LENGTH; absent or empty where there is none.
    var gateway: String?
  }
}

/// `NetworkDriver.DeleteNetwork`.
struct NetworkRequest: Decodable {
  var networkID: String
}

/// `NetworkDriver.CreateEndpoint`.
struct CreateEndpointRequest: Decodable {
  var networkID: String
  var endpointID: String
  var interface: Interface?
  var options: PublishedPorts?

  struct Interface: Decodable {
    /// ADDRESS/LENGTH each; absent or empty where there is none.
    var address: String?
    var addressIPv6: String?
    var macAddress: String?
  }
}

/// `NetworkDriver.Join`, `Leave`, `DeleteEndpoint` and `EndpointOperInfo`.
struct EndpointRequest: Decodable {
  var networkID: String
  var endpointID: String
}

/// `NetworkDriver.ProgramExternalConnectivity` and `RevokeExternalConnectivity`: the endpoint has
/// the container's way out now, with its published ports, or has it no more.
struct ConnectivityRequest: Decodable {
  var endpointID: String
  var options: PublishedPorts?
}

/// The ports of `docker run -p`, among an endpoint's options.
struct PublishedPorts: Decodable {
  var ports: [Port]?

  enum CodingKeys: String, CodingKey {
    case ports = "com.docker.network.portmap"
  }

  struct Port: Decodable {
    /// The protocol's number in IP.
    var proto: Int?
    /// The container's.
    var port: Int?
    /// The host's address; absent or empty for all.
    var hostIP: String?
    /// The host's, and the last of a range of which one is wanted; 0 where any is.
    var hostPort: Int?
    var hostPortEnd: Int?
  }
}

/// `IpamDriver.RequestPool`.
struct RequestPoolRequest: Decodable {
  /// ADDRESS/LENGTH of `--subnet` and `--ip-range`; absent or empty where there is none.
  var pool: String?
  var subPool: String?
  /// What was typed behind `--ipam-opt`.
  var options: [String: String]?
  var v6: Bool?
}

struct RequestPoolResponse: Encodable {
  var poolID: String
  /// ADDRESS/LENGTH.
  var pool: String
  let data: [String: String] = [:]
}

/// `IpamDriver.RequestAddress` and `ReleaseAddress`.
struct AddressRequest: Decodable {
  var poolID: String
  /// Without a length; absent or empty for any.
  var address: String?
  var options: [String: String]?
}

struct AddressResponse: Encodable {
  /// ADDRESS/LENGTH.
  var address: String
  let data: [String: String] = [:]
}

struct AddressSpacesResponse: Encodable {
  let localDefaultAddressSpace = "ovx"
  let globalDefaultAddressSpace = "ovx"
}

struct AddressCapabilitiesResponse: Encodable {
  let requiresMACAddress = false
  let requiresRequestReplay = false
}

struct ActivateResponse: Encodable {
  let implements = ["NetworkDriver", "IpamDriver"]
}

/// Whose networks and whose connections the driver makes: of this host's Docker, between hosts.
struct CapabilitiesResponse: Encodable {
  let scope = "local"
  let connectivityScope = "global"
}

/// The answer to `CreateEndpoint`: what the request did not say.
struct CreateEndpointResponse: Encodable {
  var interface: Interface?

  struct Interface: Encodable {
    var macAddress: String
  }
}

/// The answer to `Join`: the device to move into the container, and its routers.
struct JoinResponse: Encodable {
  var interfaceName: Name
  var gateway: String?
  var gatewayIPv6: String?
  /// Else Docker gives a container without a gateway a second interface, on a bridge of all such
  /// containers of the host.
  let disableGatewayService = true

  struct Name: Encodable {
    var srcName: String
    /// Docker numbers what comes behind it.
    let dstPrefix = "eth"
  }
}

struct OperationalInfoResponse: Encodable {
  let value: [String: String] = [:]
}

/// The answer to what needs none.
struct EmptyResponse: Encodable {}

/// What went wrong, a sentence that Docker shows.
struct ErrorResponse: Encodable {
  /// Where drivers of networks have it, and where those of addresses do.
  let err: String
  let error: String

  init(_ sentence: String) {
    err = sentence
    error = sentence
  }
}
