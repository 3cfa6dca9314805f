/// The release that both programs report.
package enum OVXVersion {
  package static let current = "0.1.0"
}
