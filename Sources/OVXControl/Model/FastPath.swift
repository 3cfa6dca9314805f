// What operators say of the fast path.

/// Whether the fast path is to be used.
package enum FastPathUse: String {
  case off
  /// Where no rules of the host are passed by: on the underlay those that its own packets are held
  /// against.
  case auto
  case on
}
