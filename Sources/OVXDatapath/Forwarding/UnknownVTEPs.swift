/// Who has sent datagrams lately and is a remote of no tunnel: the addresses that a person looks
/// for who has mistyped one.
///
/// Whoever can send to the host can fill it, so it holds a few and tells no more than what to look
/// into.
package struct UnknownVTEPs: Equatable, Sendable {
  /// Addresses that are kept.
  package static let limit = 4

  /// The addresses, the latest last, each once.
  package private(set) var addresses: [IPAddress] = []

  package init() { addresses.reserveCapacity(Self.limit) }

  /// Notes that a datagram came from an address.
  mutating func note(_ address: IPAddress) {
    guard addresses.last != address else { return }
    if let known = addresses.firstIndex(of: address) {
      addresses.remove(at: known)
    } else if addresses.count == Self.limit {
      addresses.removeFirst()
    }
    addresses.append(address)
  }
}
