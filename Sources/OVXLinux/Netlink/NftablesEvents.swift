private import CLinux
private import Glibc
private import SystemPackage

/// A change of the packet filter's tables.
package enum NftablesEvent: Equatable, Sendable {
  /// Somebody else has changed something in a table for both IPv4 and IPv6, or deleted it.
  case changed(table: String)
  /// What was told since the last such event came into force, by a process of that name: "nft".
  case committed(by: String?)
  /// News were lost.
  case overrun
}

/// A subscription to changes of the packet filter in a network namespace, but for those of one
/// socket of ours.
package struct NftablesEvents: ~Copyable, Sendable {
  private let socket: NetlinkSocket
  private let own: UInt32
  private var buffer = [UInt8](repeating: 0, count: 64 << 10)
  private var pending: [NftablesEvent] = []

  /// Bytes of news that the kernel keeps: those of a rule set with thousands of rules that is
  /// loaded at once.
  private static let receiveBufferSize: Int32 = 4 << 20

  /// Subscribes, in the calling thread's network namespace.
  ///
  /// - Parameter own: The socket whose changes are no news.
  /// - Throws: What the kernel says to the subscription.
  package init(exceptFor own: borrowing Nftables) throws(LinuxError) {
    let purpose = "news of packet filters"
    let socket = try NetlinkSocket(
      purpose: purpose, flags: Int32(bitPattern: SOCK_NONBLOCK.rawValue),
      netlinkFamily: NETLINK_NETFILTER)
    _ = socket.setOption(SOL_SOCKET, SO_RCVBUFFORCE, Self.receiveBufferSize)
    let group = Int32(bitPattern: NFNLGRP_NFTABLES.rawValue)
    if let errno = socket.setOption(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group) {
      throw LinuxError(action: "subscribe to", subject: purpose, errno: errno)
    }
    self.socket = socket
    self.own = own.portID
  }

  /// The number to wait on: readable means that `next()` may have something.
  package var rawValue: Int32 { socket.rawValue }

  /// Takes the oldest event; `nil` where there is none at the moment.
  ///
  /// - Throws: What the kernel says of a subscription that no longer works.
  package mutating func next() throws(LinuxError) -> NftablesEvent? {
    while pending.isEmpty {
      switch socket.receive(into: &buffer) {
      case .success(let count):
        let own = own
        var events: [NftablesEvent] = []
        unsafe NetlinkMessage.forEach(in: buffer.span.bytes.extracting(first: count)) { message in
          guard message.portID != own, let event = NftablesEvent(message) else { return }
          // A rule set of thousands of rules is a single piece of news.
          if events.last != event { events.append(event) }
        }
        pending = events.reversed()
      case .failure(.resourceTemporarilyUnavailable): return nil
      case .failure(.noBufferSpace), .failure(.messageTooLong): return .overrun
      case .failure(let errno):
        throw LinuxError(action: "receive", subject: "news of packet filters", errno: errno)
      }
    }
    return pending.popLast()
  }
}

extension NftablesEvent {
  /// Decodes one message; `nil` for what is none of ours.
  fileprivate init?(_ message: NetlinkMessage) {
    guard message.type >> 8 == Int(NFNL_SUBSYS_NFTABLES),
      let header = message.family(as: nfgenmsg.self)
    else { return nil }
    let isCommit = message.type & 0xFF == Int(NFT_MSG_NEWGEN.rawValue)
    guard isCommit || header.nfgen_family == NetfilterProtocol.inet else { return nil }
    var text: String?
    message.forEachAttribute(after: MemoryLayout<nfgenmsg>.size) { type, value in
      // The first attribute of all that is in a table is the table's name.
      let wanted = isCommit ? Int(NFTA_GEN_PROC_NAME.rawValue) : Int(NFTA_TABLE_NAME.rawValue)
      if type == wanted { text = value.text }
    }
    if isCommit {
      self = .committed(by: text)
    } else if let text {
      self = .changed(table: text)
    } else {
      return nil
    }
  }
}
