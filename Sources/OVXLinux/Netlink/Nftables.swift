internal import CLinux
private import Glibc
internal import SystemPackage

/// A netlink socket of nf_tables, the kernel's packet filter, for tables of our own
/// (linux/netfilter/nf_tables.h).
///
/// It belongs for ever to the network namespace that the thread was in which made it. The kernel is
/// spoken to without libnftables and nft(8): those read the whole rule set of the host before each
/// change, which has tens of thousands of rules where Kubernetes runs, and need not be installed.
package struct Nftables: ~Copyable, Sendable {
  private let socket: NetlinkSocket
  /// The author of this socket's changes in news of them.
  let portID: UInt32
  private var buffer = [UInt8](repeating: 0, count: 64 << 10)

  /// Bytes of a transaction at most: more than the remotes of a host take.
  private static let sendBufferSize: Int32 = 8 << 20

  /// Opens a socket in the calling thread's network namespace.
  ///
  /// - Throws: What the kernel refuses, such as `EPROTONOSUPPORT` where it has no netfilter at all.
  package init() throws(LinuxError) {
    // Requests are carried out and answered before send(2) returns, so that nothing has to be
    // waited for.
    let socket = try NetlinkSocket(
      purpose: "packet filters", flags: Int32(bitPattern: SOCK_NONBLOCK.rawValue),
      netlinkFamily: NETLINK_NETFILTER)
    _ = socket.setOption(SOL_SOCKET, SO_SNDBUFFORCE, Self.sendBufferSize)
    portID = socket.portID
    self.socket = socket
  }

  /// Puts all of a transaction in force, or nothing of it.
  ///
  /// - Parameters:
  ///   - transaction: What to change.
  ///   - purpose: What it is about.
  /// - Throws: The kernel's error to the first message that it refuses.
  mutating func commit(
    _ transaction: consuming NftablesTransaction, for purpose: Netlink.Purpose
  ) throws(LinuxError) {
    guard let bytes = transaction.finish() else { throw purpose.error(.messageTooLong) }
    if let errno = unsafe bytes.withUnsafeBytes({ unsafe socket.send($0) }) {
      throw purpose.error(errno)
    }
    var isConfirmed = false
    var failure: NetlinkMessage.Outcome?
    try receive(purpose) { message in
      guard let outcome = message.outcome else { return }
      isConfirmed = true
      if outcome.code != 0, failure == nil { failure = outcome }
    }
    if let failure { throw purpose.error(Errno(rawValue: failure.code), failure.text) }
    guard isConfirmed else { throw purpose.error(.badMessage) }
  }

  /// Asks for one thing.
  ///
  /// - Parameters:
  ///   - request: What to send.
  ///   - purpose: What it is about.
  ///   - answer: Receives the messages that are no confirmation.
  /// - Throws: The kernel's error: `ENOENT` for what is not there.
  mutating func ask(
    _ request: consuming NetlinkRequest, for purpose: Netlink.Purpose,
    answer: (NetlinkMessage) -> Void
  ) throws(LinuxError) {
    request.requestAcknowledgement()
    if let errno = socket.send(request) { throw purpose.error(errno) }
    var failure: NetlinkMessage.Outcome?
    try receive(purpose) { message in
      guard let outcome = message.outcome else { return answer(message) }
      if outcome.code != 0, failure == nil { failure = outcome }
    }
    if let failure { throw purpose.error(Errno(rawValue: failure.code), failure.text) }
  }

  /// The number of the rule set of the socket's namespace, which each change of anybody's makes
  /// another one; `nil` where the kernel does not say.
  package mutating func generation() throws(LinuxError) -> UInt32? {
    var generation: UInt32?
    let purpose = Netlink.Purpose(action: "ask for", subject: "the packet filter's generation")
    try ask(NetlinkRequest(nftables: NFT_MSG_GETGEN, family: 0), for: purpose) { message in
      message.forEachAttribute(after: MemoryLayout<nfgenmsg>.size) { type, value in
        if type == Int(NFTA_GEN_ID.rawValue) { generation = value.uint32 }
      }
    }
    return generation
  }

  /// Receives all that is there.
  private mutating func receive(
    _ purpose: Netlink.Purpose, _ body: (NetlinkMessage) -> Void
  ) throws(LinuxError) {
    while true {
      switch socket.receive(into: &buffer) {
      case .success(let count):
        unsafe NetlinkMessage.forEach(in: buffer.span.bytes.extracting(first: count), body)
      case .failure(.resourceTemporarilyUnavailable): return
      case .failure(let errno): throw purpose.error(errno)
      }
    }
  }
}

/// Changes of tables that come into force together.
struct NftablesTransaction: ~Copyable {
  private var bytes: [UInt8] = []
  /// The last change, which is the one that is to be confirmed.
  private var last: NetlinkRequest?
  private var count: UInt32 = 0
  private var isTooLarge = false

  init() { write(Self.bracket(Int(NFNL_MSG_BATCH_BEGIN))) }

  /// Appends a change.
  ///
  /// - Parameters:
  ///   - type: What to do.
  ///   - flags: `NLM_F_...`.
  ///   - build: Puts the attributes in.
  mutating func append(
    _ type: nf_tables_msg_types, flags: Int32 = 0, _ build: (inout NetlinkRequest) -> Void
  ) {
    if let former = last.take() { write(former) }
    var request = NetlinkRequest(nftables: type, flags: flags)
    build(&request)
    last = consume request
  }

  /// All of it, to be sent in one datagram; `nil` where a change was too large for its message.
  consuming func finish() -> [UInt8]? {
    if var request = last.take() {
      request.requestAcknowledgement()
      write(request)
    }
    write(Self.bracket(Int(NFNL_MSG_BATCH_BEGIN) + 1))
    return isTooLarge ? nil : bytes
  }

  private mutating func write(_ request: consuming NetlinkRequest) {
    isTooLarge = isTooLarge || request.isTooLarge
    count &+= 1
    request.sequence = count
    unsafe request.withBytes { unsafe bytes.append(contentsOf: $0) }
  }

  /// What stands before and behind the changes.
  private static func bracket(_ type: Int) -> NetlinkRequest {
    NetlinkRequest(
      type: type, flags: 0,
      family: nfgenmsg(
        nfgen_family: 0, version: UInt8(NFNETLINK_V0),
        res_id: UInt16(NFNL_SUBSYS_NFTABLES).bigEndian))
  }
}

extension NetlinkRequest {
  /// Starts a request, about tables for both IPv4 and IPv6 where nothing else is said; 0 is any
  /// family.
  init(
    nftables type: nf_tables_msg_types, flags: Int32 = 0, family: UInt8 = NetfilterProtocol.inet
  ) {
    self.init(
      type: Int(NFNL_SUBSYS_NFTABLES) << 8 | Int(type.rawValue), flags: flags,
      family: nfgenmsg(nfgen_family: family, version: UInt8(NFNETLINK_V0), res_id: 0))
  }

  mutating func put<Attribute: RawRepresentable<UInt32>>(_ type: Attribute, _ text: String) {
    put(Int(type.rawValue), text)
  }

  /// Appends a number in network byte order, as nf_tables has all of its own.
  mutating func put<Attribute: RawRepresentable<UInt32>>(_ type: Attribute, _ number: UInt32) {
    put(Int(type.rawValue), number.bigEndian)
  }

  mutating func put<Attribute: RawRepresentable<UInt32>>(_ type: Attribute, bytes: [UInt8]) {
    put(Int(type.rawValue), bytes: bytes)
  }

  mutating func nest<Attribute: RawRepresentable<UInt32>>(
    _ type: Attribute, _ build: (inout NetlinkRequest) -> Void
  ) {
    nest(Int(type.rawValue), build)
  }
}

/// Whose packets something is about (`NFPROTO_...` of <linux/netfilter.h>).
enum NetfilterProtocol {
  /// Those of IPv4 and IPv6.
  static let inet: UInt8 = 1
  static let ipv4: UInt8 = 2
  static let netdev: UInt8 = 5
  static let ipv6: UInt8 = 10

  /// What nft(8) calls one of these.
  static func name(of family: UInt8) -> String {
    switch family {
    case inet: "inet"
    case ipv4: "ip"
    case ipv6: "ip6"
    case netdev: "netdev"
    default: "\(family)"
    }
  }
}
