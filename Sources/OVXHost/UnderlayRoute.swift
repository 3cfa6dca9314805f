package import OVXDatapath

/// The way to a VTEP.
package struct UnderlayRoute: Equatable {
  /// The address to send from.
  ///
  /// When the kernel would choose another one, the sockets are opened anew.
  package var source: IPAddress
  /// The largest IP packet that gets through, as far as the kernel knows.
  var pathMTU: Int
  /// The largest IP packet of a tenant that gets through inside of a tunnel, in bytes.
  package var innerMTU: Int
  /// The device that packets leave by.
  package var device: String
  /// Whether less gets through than the device takes.
  ///
  /// The kernel forgets that without saying so.
  var isNarrow: Bool
  /// The indices of the devices by which the VTEP's datagrams may come: those that lead to it.
  var devices: [UInt32] = []
  /// How superframes can leave by it.
  var superframes = Superframes.segmented("nobody asked")

  /// How superframes leave.
  enum Superframes: Equatable {
    /// In trains of datagrams, and why.
    case segmented(String)
    /// Whole.
    case injected(Outlet)
  }

  /// Where injected superframes leave the host, and to whom.
  struct Outlet: Equatable {
    var linkIndex: Int32
    var device: String
    var source: MACAddress
    var nextHop: MACAddress
  }
}
