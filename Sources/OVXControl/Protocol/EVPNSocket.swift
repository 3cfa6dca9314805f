package import SystemPackage

/// Where ovx-evpn and the CLI meet: a socket in the daemon's run directory, on which the same is
/// spoken as on the daemon's.
package enum EVPNSocket {
  package static func path(in runDirectory: FilePath) -> FilePath {
    runDirectory.appending("evpn.sock")
  }

  package static func path(in runDirectory: String) -> String {
    path(in: FilePath(runDirectory)).string
  }
}
