internal import OVXControl
internal import OVXDatapath
internal import OVXLinux

/// The announcements of the addresses that the daemon has given to devices: other hosts, and the
/// switches' tables, may know them otherwise from before.
///
/// Each is made when the port has gone into service, and twice again, since the first may find a
/// tunnel that is not up yet.
struct Introductions {
  /// Milliseconds from one announcement to the next.
  private static let pauses: [Int64] = [1000, 3000]

  private struct Introduction {
    var announcements: [Announcement]
    /// How often they were made.
    var count = 0
    /// When to make them next, in milliseconds on the monotonic clock.
    var next: Int64 = 0
  }

  private var pending: [String: Introduction] = [:]

  /// When something is to be announced next, in milliseconds on the monotonic clock; `nil` for
  /// never.
  var next: Int64? { pending.values.map(\.next).min() }

  /// Has the addresses of a port announced, from now on.
  mutating func add(_ announcements: [Announcement], of port: String) {
    pending[port] = announcements.isEmpty ? nil : Introduction(announcements: announcements)
  }

  /// Announces what is due.
  ///
  /// - Parameters:
  ///   - now: Milliseconds on the monotonic clock.
  ///   - dataplane: Where.
  ///   - number: The number of a port; `nil` for one that is gone.
  mutating func make(now: Int64, in dataplane: any DataPlaneCommands, number: (String) -> PortID?) {
    var orders: [AnnouncementOrder] = []
    for (port, introduction) in pending where introduction.next <= now {
      pending[port] = nil
      guard let number = number(port) else { continue }
      orders.append(
        AnnouncementOrder(
          port: number, announcements: introduction.announcements,
          isRepetition: introduction.count > 0))
      guard introduction.count < Self.pauses.count else { continue }
      var introduction = introduction
      introduction.next = now + Self.pauses[introduction.count]
      introduction.count += 1
      pending[port] = introduction
    }
    if !orders.isEmpty { dataplane.announce(orders) }
  }
}

/// What others are to know of a device that the daemon made.
struct Introduction {
  var address: MACAddress?
  /// Whether its user passes IPv6 packets on.
  var isRouter: Bool

  /// The announcements of some addresses of the device.
  func announcements(of addresses: [OVXControl.InterfaceAddress]) -> [Announcement] {
    guard let address else { return [] }
    return addresses.map {
      Announcement(ip: $0.address, address: address, isRouter: isRouter && $0.address.isIPv6)
    }
  }
}
