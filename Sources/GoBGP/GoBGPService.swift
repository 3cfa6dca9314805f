package import GRPCCore

/// The calls of GoBGP's API in use.
package enum GoBGPService {
  /// The API of GoBGP 3; GoBGP 4 has another name.
  private static let name = "apipb.GobgpApi"

  package static let getBgp = MethodDescriptor(fullyQualifiedService: name, method: "GetBgp")
  package static let listPeer = MethodDescriptor(fullyQualifiedService: name, method: "ListPeer")
  package static let listPath = MethodDescriptor(fullyQualifiedService: name, method: "ListPath")
  package static let addPathStream = MethodDescriptor(
    fullyQualifiedService: name, method: "AddPathStream")
  package static let watchEvent = MethodDescriptor(
    fullyQualifiedService: name, method: "WatchEvent")
}
