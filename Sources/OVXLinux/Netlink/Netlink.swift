private import CLinux
private import Glibc
internal import SystemPackage

/// A route netlink socket: questions and orders about devices, addresses and routes (rtnetlink(7)).
///
/// It belongs for ever to the network namespace that the thread was in which made it, whoever uses
/// it later, and keeps that namespace alive: do not hold one of a container's. To work in another
/// namespace, make the socket there: `try Netlink(in: namespace)`.
///
/// Every exchange waits for the kernel's confirmation, so when a call returns, its effect is there.
/// The kernel checks requests strictly (`NETLINK_GET_STRICT_CHK`), and an error carries its own
/// words (`NETLINK_EXT_ACK`). What can be done is in Link.swift, LinkChanges.swift, Address.swift,
/// Route.swift, KernelNeighbor.swift and Injector.swift.
package struct Netlink: ~Copyable, Sendable {
  private let socket: NetlinkSocket
  private var sequence: UInt32 = 0
  /// Receives datagrams.
  ///
  /// Answers to a dump are 32 KiB at most (`netlink_dump` of the kernel), a single device's are far
  /// below it as nobody asks for its virtual functions.
  private var buffer = [UInt8](repeating: 0, count: 64 << 10)

  /// How often a table that changed while it was read is read again.
  private static let attempts = 16

  /// Opens a socket in the calling thread's network namespace.
  package init() throws(LinuxError) {
    self.init(try NetlinkSocket(purpose: "network devices"))
  }

  /// Opens a socket in another network namespace.
  package init(in namespace: NetworkNamespace) throws(LinuxError) {
    self.init(NetlinkSocket(settingUp: try namespace.open(.routeNetlink)))
  }

  /// Talks to whoever is behind an open socket, as if it were the kernel.
  package init(talkingTo descriptor: consuming Descriptor) {
    self.init(NetlinkSocket(descriptor))
  }

  init(_ socket: consuming NetlinkSocket) {
    // No answer takes time once the request is sent; the limit is for the one that never comes.
    socket.setReceiveTimeout(seconds: 10)
    self.socket = socket
  }

  /// What an order is about, for the sentence that tells of its failure.
  struct Purpose {
    /// A verb phrase: "set the MTU of".
    var action: String
    var subject: String
    /// What the user can do about an error number.
    var remedy: (Errno) -> String? = { _ in nil }

    func error(_ errno: Errno, _ detail: String? = nil) -> LinuxError {
      var remedy = remedy(errno)
      if remedy == nil, errno == .notPermitted {
        remedy = "run ovx-vswitchd as root, or with the capability CAP_NET_ADMIN"
      }
      return LinuxError(
        action: action,
        subject: subject,
        errno: errno,
        detail: detail,
        remedy: remedy
      )
    }
  }

  /// Gives an order, or asks for one thing, and returns once the kernel has confirmed it.
  ///
  /// - Parameters:
  ///   - request: What to send.
  ///   - purpose: What it is about.
  ///   - answer: Receives the messages that came before the confirmation.
  /// - Throws: The kernel's error, with its explanation.
  mutating func transact(
    _ request: consuming NetlinkRequest,
    for purpose: Purpose,
    answer: (NetlinkMessage) -> Void = { _ in }
  ) throws(LinuxError) {
    request.requestAcknowledgement()
    _ = try exchange(&request, purpose, answer)
  }

  /// Reads a table.
  ///
  /// A table that changed meanwhile (`NLM_F_DUMP_INTR`) may have been read with gaps, and is read
  /// again. One that changes each time is answered with all that was in it lately: what went in the
  /// meantime may be among it, but what stayed is not missing. A host that starts containers
  /// without pause must not keep the switch from starting.
  ///
  /// - Parameters:
  ///   - request: What to send.
  ///   - purpose: What it is about.
  ///   - key: What tells an element from the others.
  ///   - decode: Makes an element of a message, or nothing.
  /// - Returns: The elements, in no order.
  /// - Throws: The kernel's error.
  mutating func dump<Element, Key: Hashable>(
    _ request: consuming NetlinkRequest, for purpose: Purpose, key: KeyPath<Element, Key>,
    decode: (NetlinkMessage) -> Element?
  ) throws(LinuxError) -> [Element] {
    var lately: [Key: Element] = [:]
    for _ in 0..<Self.attempts {
      var elements: [Element] = []
      let isWhole = try exchange(&request, purpose) { message in
        if let element = decode(message) { elements.append(element) }
      }
      if isWhole { return elements }
      for element in elements { lately[element[keyPath: key]] = element }
    }
    return Array(lately.values)
  }

  /// Sends a request and receives up to the message that ends the exchange.
  ///
  /// - Returns: Whether everything arrived and nothing changed meanwhile.
  private mutating func exchange(
    _ request: inout NetlinkRequest,
    _ purpose: Purpose,
    _ body: (NetlinkMessage) -> Void
  ) throws(LinuxError) -> Bool {
    guard !request.isTooLarge else { throw purpose.error(.messageTooLong) }
    sequence &+= 1
    request.sequence = sequence
    if let errno = socket.send(request) { throw purpose.error(errno) }

    let sequence = sequence
    var isWhole = true
    var outcome: NetlinkMessage.Outcome?
    while outcome == nil {
      let count: Int
      switch socket.receive(into: &buffer) {
      case .success(let received): count = received
      // Something was lost. What is missing is not known, but the end is still to come.
      case .failure(.noBufferSpace):
        isWhole = false
        continue
      case .failure(.resourceTemporarilyUnavailable): throw purpose.error(.timedOut)
      case .failure(let errno): throw purpose.error(errno)
      }
      unsafe NetlinkMessage.forEach(in: buffer.span.bytes.extracting(first: count)) { message in
        // An answer to an earlier request whose end was not waited for is nobody's.
        guard message.sequence == sequence, outcome == nil else { return }
        if message.flags & NLM_F_DUMP_INTR != 0 { isWhole = false }
        outcome = message.outcome
        if outcome == nil { body(message) }
      }
    }
    if let outcome, outcome.code != 0 {
      throw purpose.error(Errno(rawValue: outcome.code), outcome.text)
    }
    return isWhole
  }
}

/// A netlink socket, bound and set up; what requests and subscriptions have in common.
struct NetlinkSocket: ~Copyable, Sendable {
  private let descriptor: Descriptor

  init(_ descriptor: consuming Descriptor) {
    self.descriptor = descriptor
  }

  /// Opens a socket in the calling thread's network namespace.
  ///
  /// - Parameters:
  ///   - purpose: What it is for, for the sentence that tells of a failure.
  ///   - flags: `SOCK_...` besides `SOCK_CLOEXEC`.
  ///   - netlinkFamily: `NETLINK_...`.
  /// - Throws: That the kernel opens none, such as `EPROTONOSUPPORT` for a family that it does not
  ///   have.
  init(
    purpose: String, flags: Int32 = 0, netlinkFamily: Int32 = NETLINK_ROUTE
  ) throws(LinuxError) {
    let type = flags | Int32(bitPattern: SOCK_RAW.rawValue | SOCK_CLOEXEC.rawValue)
    let number = Glibc.socket(AF_NETLINK, type, netlinkFamily)
    guard number >= 0 else {
      throw LinuxError(action: "open a netlink socket for", subject: purpose, errno: .latest)
    }
    self.init(settingUp: Descriptor(owning: number))
  }

  /// Takes a socket of netlink that was opened, in whatever namespace, and is not bound.
  init(settingUp socket: consuming Descriptor) {
    descriptor = socket
    let number = descriptor.rawValue

    // Gives it a number of its own: without one, the kernel would take it for itself and pass it
    // over with news. There is nothing that could fail here, and if it did, the first request
    // would.
    var address = sockaddr_nl()
    address.nl_family = sa_family_t(AF_NETLINK)
    _ = unsafe withUnsafePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        unsafe bind(number, $0, socklen_t(MemoryLayout<sockaddr_nl>.size))
      }
    }

    // All three are there since Linux 4.20, far below what the rest of the program needs; where one
    // is refused, only the wording of errors suffers.
    for option in [NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK] {
      _ = setOption(SOL_NETLINK, option, 1)
    }
  }

  /// The number to poll.
  var rawValue: Int32 { descriptor.rawValue }

  /// Sets an integer option; `nil` for success.
  func setOption(_ level: Int32, _ option: Int32, _ value: Int32) -> Errno? {
    descriptor.setOption(level, option, value)
  }

  func setReceiveTimeout(seconds: Int) {
    let size = socklen_t(MemoryLayout<timeval>.size)
    _ = unsafe withUnsafePointer(to: timeval(tv_sec: seconds, tv_usec: 0)) {
      unsafe setsockopt(descriptor.rawValue, SOL_SOCKET, SO_RCVTIMEO, $0, size)
    }
  }

  /// Sends a request to the kernel, which carries it out before this returns; `nil` for success.
  func send(_ request: borrowing NetlinkRequest) -> Errno? {
    unsafe request.withBytes { unsafe send($0) }
  }

  /// Sends one or more requests in one datagram; `nil` for success.
  func send(_ bytes: UnsafeRawBufferPointer) -> Errno? {
    while true {
      let sent = unsafe Glibc.send(
        descriptor.rawValue, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
      guard sent < 0 else { return nil }
      guard errno == EINTR else { return .latest }
    }
  }

  /// The number by which the kernel names the socket as the author of a change.
  var portID: UInt32 {
    var address = sockaddr_nl()
    var size = socklen_t(MemoryLayout<sockaddr_nl>.size)
    _ = unsafe withUnsafeMutablePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        unsafe getsockname(descriptor.rawValue, $0, &size)
      }
    }
    return address.nl_pid
  }

  /// Receives one datagram of the kernel's.
  ///
  /// Those that other processes sent are left out.
  ///
  /// - Returns: Its length, above 0; `EMSGSIZE` where it did not fit; `EPIPE` where there will
  ///   never be another.
  func receive(into buffer: inout [UInt8]) -> Result<Int, Errno> {
    while true {
      var sender = sockaddr_nl()
      var size = socklen_t(MemoryLayout<sockaddr_nl>.size)
      let received = unsafe buffer.withUnsafeMutableBytes { bytes in
        unsafe withUnsafeMutablePointer(to: &sender) { pointer in
          unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
            unsafe recvfrom(
              descriptor.rawValue,
              bytes.baseAddress,
              bytes.count,
              Int32(MSG_TRUNC),
              address,
              &size
            )
          }
        }
      }
      if received < 0 {
        guard errno == EINTR else { return .failure(.latest) }
      } else if received == 0 {
        return .failure(.brokenPipe)
      } else if sender.nl_pid == 0 {
        return received <= buffer.count ? .success(received) : .failure(.messageTooLong)
      }
    }
  }
}
