private import CLinux
private import Glibc
package import OVXDatapath
private import SystemPackage

/// Something that happened in a network namespace.
package enum LinkEvent: Equatable, Sendable {
  /// A device was made, or came from another namespace.
  case appeared(Link)
  /// A device is otherwise than before: its name, state, MTU, address, master.
  ///
  /// The kernel repeats itself: nothing need be different. A renamed device is told from a new one
  /// by its index.
  case changed(Link)
  /// A device is gone; `moved` says that it lives on in another namespace.
  case disappeared(name: String, index: Int32, moved: Bool)
  /// A device got or lost an IP address.
  case addressesChanged(linkIndex: Int32)
  /// The routing tables are otherwise than before.
  ///
  /// Routes that leave silently with their device or its last address are not announced: take those
  /// events for this one too. Nor is a path MTU that was learned or forgotten.
  case routesChanged
  /// Something about the link-layer address of a neighbor is otherwise, perhaps only how sure the
  /// kernel is of it.
  case neighborChanged(linkIndex: Int32, address: IPAddress)
  /// Filters of traffic control came to a device or went, other than those of a `StackFilter` that
  /// came.
  case filtersChanged(linkIndex: Int32)
  /// News were lost, since they were fetched too slowly: list everything anew.
  ///
  /// What follows is newer than this event. The list may be newer than some of it, which does no
  /// harm, as all events from here on arrive in their order.
  case overrun
}

/// A subscription to what happens to the devices of a network namespace.
///
/// It belongs to the namespace in which the calling thread was when it was made, and keeps it
/// alive. To know a state for certain, subscribe first and list afterwards (`Netlink.links()`):
/// what happens in between comes as an event.
package struct LinkEvents: ~Copyable, Sendable {
  /// What to hear of besides the devices.
  package struct Subjects: OptionSet, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// IP addresses of devices.
    package static let addresses = Subjects(rawValue: 1)
    /// IPv4 and IPv6 routes.
    package static let routes = Subjects(rawValue: 2)
    /// Filters of traffic control on the way in and out of devices.
    package static let filters = Subjects(rawValue: 4)
  }

  private let socket: NetlinkSocket
  private var buffer = [UInt8](repeating: 0, count: 64 << 10)
  /// Events of the last datagram, the oldest last.
  private var pending: [LinkEvent] = []
  /// Whether news were lost and what was queued before them is still to be thrown away.
  private var isBehind = false

  /// Datagrams thrown away in one go: a flood of news must not hold up the caller.
  private static let discardLimit = 10_000

  /// Subscribes.
  ///
  /// - Parameters:
  ///   - subjects: What to hear of besides the devices.
  ///   - receiveBuffer: Bytes of news that the kernel keeps at most, some 1,200 for each event. The
  ///     default holds what a host with thousands of containers does in one breath.
  /// - Throws: What the kernel says to the subscription.
  package init(
    _ subjects: Subjects = [],
    receiveBuffer: Int32 = 8 << 20
  ) throws(LinuxError) {
    let socket = try NetlinkSocket(
      purpose: "news of network devices",
      flags: Int32(bitPattern: SOCK_NONBLOCK.rawValue)
    )
    if socket.setOption(SOL_SOCKET, SO_RCVBUFFORCE, receiveBuffer) != nil {
      _ = socket.setOption(SOL_SOCKET, SO_RCVBUF, receiveBuffer)
    }
    var groups = [RTNLGRP_LINK]
    if subjects.contains(.addresses) { groups += [RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR] }
    if subjects.contains(.routes) { groups += [RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE] }
    if subjects.contains(.filters) { groups.append(RTNLGRP_TC) }
    for group in groups {
      let number = Int32(bitPattern: group.rawValue)
      if let errno = socket.setOption(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, number) {
        throw LinuxError(
          action: "subscribe to",
          subject: "news of network devices",
          errno: errno
        )
      }
    }
    self.socket = socket
  }

  /// Hears of the neighbors on all links as well, from now on.
  ///
  /// They are many on a large link, and change all the time: only who needs to know should ask.
  package func subscribeToNeighbors() throws(LinuxError) {
    let group = Int32(bitPattern: RTNLGRP_NEIGH.rawValue)
    if let errno = socket.setOption(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group) {
      throw LinuxError(action: "subscribe to", subject: "news of neighbors", errno: errno)
    }
  }

  /// Listens to whoever is behind an open non-blocking socket, as if it were the kernel.
  package init(listeningTo descriptor: consuming Descriptor) {
    socket = NetlinkSocket(descriptor)
  }

  /// The number to wait on: readable means that `next()` has something.
  package var rawValue: Int32 { socket.rawValue }

  /// Takes the oldest event; `nil` where there is none at the moment.
  ///
  /// Never waits.
  ///
  /// - Throws: What the kernel says of a subscription that no longer works.
  package mutating func next() throws(LinuxError) -> LinkEvent? {
    while true {
      if let event = pending.popLast() { return event }
      if isBehind { return catchUp() }
      switch socket.receive(into: &buffer) {
      case .success(let count):
        var events: [LinkEvent] = []
        unsafe NetlinkMessage.forEach(in: buffer.span.bytes.extracting(first: count)) { message in
          if let event = LinkEvent(message) { events.append(event) }
        }
        pending = events.reversed()
      case .failure(.resourceTemporarilyUnavailable): return nil
      // The kernel dropped news, or had some that are too long for us: either way something is not
      // known.
      case .failure(.noBufferSpace), .failure(.messageTooLong): isBehind = true
      case .failure(let errno):
        throw LinuxError(
          action: "receive",
          subject: "news of network devices",
          errno: errno
        )
      }
    }
  }

  /// Throws away what was queued before the loss, then tells of it.
  ///
  /// It is older than the list that the caller makes next, and its consequences may be among what
  /// was lost: believed after the list, it would leave a wrong picture for good.
  private mutating func catchUp() -> LinkEvent? {
    for _ in 0..<Self.discardLimit {
      if case .failure(.resourceTemporarilyUnavailable) = socket.receive(into: &buffer) {
        isBehind = false
        return .overrun
      }
    }
    return nil
  }
}

extension LinkEvent {
  /// Decodes one message; `nil` for what is none of ours.
  init?(_ message: NetlinkMessage) {
    switch message.type {
    case Int(RTM_NEWLINK):
      guard let link = Link(message) else { return nil }
      // The kernel announces a device with every flag marked as changed (`rtmsg_ifinfo` in
      // register_netdevice, and in dev_change_net_namespace for one that moved in).
      let change = message.family(as: ifinfomsg.self)?.ifi_change
      self = change == .max ? .appeared(link) : .changed(link)
    case Int(RTM_DELLINK):
      guard let link = Link(describedBy: message) else { return nil }
      var moved = false
      message.forEachAttribute(after: MemoryLayout<ifinfomsg>.size) { type, _ in
        if type == Int(IFLA_NEW_NETNSID) { moved = true }
      }
      self = .disappeared(name: link.name, index: link.index, moved: moved)
    case Int(RTM_NEWADDR), Int(RTM_DELADDR):
      guard let header = message.family(as: ifaddrmsg.self),
        let index = Int32(exactly: header.ifa_index)
      else { return nil }
      self = .addressesChanged(linkIndex: index)
    case Int(RTM_NEWROUTE), Int(RTM_DELROUTE): self = .routesChanged
    case Int(RTM_NEWNEIGH), Int(RTM_DELNEIGH):
      guard let neighbor = KernelNeighbor(message) else { return nil }
      self = .neighborChanged(linkIndex: neighbor.linkIndex, address: neighbor.address)
    case Int(RTM_NEWTFILTER), Int(RTM_DELTFILTER):
      guard let filter = TrafficFilter(message), TrafficDirection(rawValue: filter.parent) != nil,
        message.type == Int(RTM_DELTFILTER) || !StackFilter.isAny(filter)
      else { return nil }
      self = .filtersChanged(linkIndex: filter.linkIndex)
    case Int(RTM_DELQDISC):
      guard let header = message.family(as: tcmsg.self), header.tcm_parent == Netlink.classifier
      else { return nil }
      self = .filtersChanged(linkIndex: header.tcm_ifindex)
    default: return nil
    }
  }
}
