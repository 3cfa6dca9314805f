import Foundation
import Testing

extension SystemTests {
  /// Hosts that are told of no other host, with gobgpd, reflectors of FRR and a host of FRR and the
  /// kernel's VXLAN.
  @Suite struct EVPNTests {
    /// The demonstration proves each thing that it shows, and fails with the first that is not so.
    @Test func theDemonstrationHolds() throws {
      let program = Lab.packageRoot.appendingPathComponent(".build-evpn/release/ovx-evpn").path
      guard FileManager.default.isExecutableFile(atPath: program) else {
        Issue.record("there is no ovx-evpn; deploy/build-evpn builds it, and Tests/run calls that")
        return
      }
      let output = try Command(
        [Lab.packageRoot.appendingPathComponent("deploy/quickstart-evpn").path, "--no-build"],
        environment: ["OVX_BIN": "\(Lab.binaries)", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"]
      ).finish(seconds: 300)
      let told = "\(output.standardOutput.suffix(6000))\(output.standardError.suffix(6000))"
      #expect(output.succeeded, "\(told)")
      #expect(output.standardOutput.contains(/All [0-9]+ expectations held/))
    }
  }
}
