private import CLinux
internal import OVXDatapath

// The wire format of netlink (RFC 3549; linux/netlink.h): a 16-byte header, a header of the family,
// then attributes: length, type and value, each padded to 4 bytes. libmnl lays it out and walks it;
// this room is the border at which its pointers become values whose length Swift checks.

/// A request to the kernel, laid out by libmnl as it is built.
@safe struct NetlinkRequest: ~Copyable {
  /// Bytes of any one request: one page.
  ///
  /// The longest, a pair of devices with names and addresses, needs some 300.
  private static let capacity = 4096

  private let header: UnsafeMutablePointer<nlmsghdr>
  /// Whether something did not fit and was left out, so that the request must not be sent.
  private(set) var isTooLarge = false

  /// Starts a request.
  ///
  /// - Parameters:
  ///   - type: `RTM_...`.
  ///   - flags: `NLM_F_...` besides `NLM_F_REQUEST`.
  ///   - family: The family's own header, such as `ifinfomsg`.
  init<Family: BitwiseCopyable>(type: Int, flags: Int32, family: Family) {
    let memory = UnsafeMutableRawPointer.allocate(
      byteCount: Self.capacity,
      alignment: MemoryLayout<nlmsghdr>.alignment
    )
    unsafe header = mnl_nlmsg_put_header(memory)
    unsafe header.pointee.nlmsg_type = UInt16(truncatingIfNeeded: type)
    unsafe header.pointee.nlmsg_flags = UInt16(truncatingIfNeeded: NLM_F_REQUEST | flags)
    put(family)
  }

  deinit {
    unsafe header.deallocate()
  }

  /// The number by which the kernel's answers refer to the request.
  var sequence: UInt32 {
    get { unsafe header.pointee.nlmsg_seq }
    set { unsafe header.pointee.nlmsg_seq = newValue }
  }

  /// Asks for a confirmation, so that every exchange ends with a message that says whether it
  /// worked.
  mutating func requestAcknowledgement() {
    unsafe header.pointee.nlmsg_flags |= UInt16(truncatingIfNeeded: NLM_F_ACK)
  }

  /// The bytes to send.
  func withBytes<Value>(_ body: (UnsafeRawBufferPointer) -> Value) -> Value {
    unsafe body(
      UnsafeRawBufferPointer(start: header, count: Int(header.pointee.nlmsg_len))
    )
  }

  /// Appends a structure, padded with zeros: a family's header, at the front of the request or of a
  /// nest.
  mutating func put<Family: BitwiseCopyable>(_ value: Family) {
    let used = unsafe Int(header.pointee.nlmsg_len)
    guard used &+ MemoryLayout<Family>.size &+ 4 <= Self.capacity else {
      isTooLarge = true
      return
    }
    unsafe mnl_nlmsg_put_extra_header(header, MemoryLayout<Family>.size)?
      .storeBytes(of: value, as: Family.self)
  }

  mutating func put(_ type: Int, _ value: UInt32) {
    record(unsafe mnl_attr_put_u32_check(header, Self.capacity, UInt16(type), value))
  }

  mutating func put(_ type: Int, descriptor: Int32) {
    put(type, UInt32(bitPattern: descriptor))
  }

  /// Appends a text with its terminating zero.
  ///
  /// A text that itself holds a zero is cut there by the kernel.
  mutating func put(_ type: Int, _ text: String) {
    record(unsafe mnl_attr_put_strz_check(header, Self.capacity, UInt16(type), text))
  }

  mutating func put(_ type: Int, _ address: MACAddress) {
    put(type, bytes: address.octets)
  }

  mutating func put(_ type: Int, _ address: IPAddress) {
    put(type, bytes: address.octets)
  }

  mutating func put(_ type: Int, bytes: [UInt8]) {
    record(unsafe mnl_attr_put_check(header, Self.capacity, UInt16(type), bytes.count, bytes))
  }

  /// Appends an attribute that holds attributes.
  mutating func nest(_ type: Int, _ build: (inout NetlinkRequest) -> Void) {
    guard let start = unsafe mnl_attr_nest_start_check(header, Self.capacity, UInt16(type)) else {
      isTooLarge = true
      return
    }
    build(&self)
    unsafe mnl_attr_nest_end(header, start)
  }

  private mutating func record(_ fits: Bool) {
    if !fits { isTooLarge = true }
  }
}

/// One message from the kernel, as long as the buffer it was received into is borrowed.
struct NetlinkMessage: ~Escapable {
  /// The message from its header on, at least as long as the header.
  private let bytes: RawSpan

  @_lifetime(copy bytes)
  private init(_ bytes: RawSpan) {
    self.bytes = bytes
  }

  /// Hands over each whole message of a datagram, in order; what follows the first malformed one is
  /// ignored.
  static func forEach(in datagram: RawSpan, _ body: (NetlinkMessage) -> Void) {
    var offset = 0
    while offset < datagram.byteCount {
      let rest = datagram.extracting(droppingFirst: offset)
      let length = unsafe rest.withUnsafeBytes { bytes -> Int in
        guard let header = unsafe bytes.baseAddress?.assumingMemoryBound(to: nlmsghdr.self),
          let count = Int32(exactly: bytes.count), unsafe mnl_nlmsg_ok(header, count)
        else { return 0 }
        return unsafe Int(header.pointee.nlmsg_len)
      }
      guard length > 0 else { return }
      body(NetlinkMessage(rest.extracting(first: length)))
      offset &+= (length &+ 3) & ~3
    }
  }

  private var header: nlmsghdr {
    bytes.loadTrivial(as: nlmsghdr.self, at: 0) ?? nlmsghdr()
  }

  var type: Int { Int(header.nlmsg_type) }
  var flags: Int32 { Int32(header.nlmsg_flags) }
  var sequence: UInt32 { header.nlmsg_seq }
  /// The netlink socket whose request the message answers, or whose change it tells of.
  var portID: UInt32 { header.nlmsg_pid }

  /// What follows the header.
  private var payload: RawSpan {
    @_lifetime(copy self)
    get { bytes.extracting(droppingFirst: MemoryLayout<nlmsghdr>.size) }
  }

  /// Reads the structure that the payload begins with; `nil` where the payload is shorter.
  func family<Family: BitwiseCopyable>(as type: Family.Type) -> Family? {
    payload.loadTrivial(as: type, at: 0)
  }

  /// Hands over the attributes behind the first `offset` bytes of the payload, up to the first
  /// malformed one.
  func forEachAttribute(after offset: Int, _ body: (Int, RawSpan) -> Void) {
    payload.extracting(droppingFirst: (offset &+ 3) & ~3).forEachAttribute(body)
  }

  /// What a message that ends an exchange says about it; `nil` for any other message.
  var outcome: Outcome? {
    switch Int32(header.nlmsg_type) {
    case NLMSG_ERROR:
      guard let report = family(as: nlmsgerr.self) else { return Outcome(code: EBADMSG, text: nil) }
      // Unless the kernel cut it off as asked (NLM_F_CAPPED), the request follows, and then the
      // attributes.
      var offset = MemoryLayout<nlmsgerr>.size
      if flags & NLM_F_CAPPED == 0 {
        offset &+= Int(report.msg.nlmsg_len) &- MemoryLayout<nlmsghdr>.size
      }
      return Outcome(code: 0 &- report.error, text: explanation(after: offset))
    case NLMSG_DONE:
      // A dump ends with the number of an error or 0; kernels before 4.14 could leave it out.
      let code = family(as: Int32.self) ?? 0
      return Outcome(code: 0 &- min(code, 0), text: explanation(after: MemoryLayout<Int32>.size))
    default:
      return nil
    }
  }

  struct Outcome {
    /// 0 for success, else an `errno` value.
    var code: Int32
    /// The kernel's own words, such as "mtu greater than device maximum".
    var text: String?
  }

  /// The text of the extended acknowledgement, if the kernel sent one (`NLMSGERR_ATTR_MSG`).
  private func explanation(after offset: Int) -> String? {
    guard flags & NLM_F_ACK_TLVS != 0, offset >= 0 else { return nil }
    var text: String?
    forEachAttribute(after: offset) { type, value in
      if type == Int(NLMSGERR_ATTR_MSG.rawValue) { text = value.text }
    }
    return text
  }
}

extension RawSpan {
  /// Hands over each attribute of a nest, its type and its value, up to the first malformed one.
  func forEachAttribute(_ body: (Int, RawSpan) -> Void) {
    var offset = 0
    while offset < byteCount {
      let rest = extracting(droppingFirst: offset)
      let attribute = unsafe rest.withUnsafeBytes { bytes -> (type: Int, value: Int)? in
        guard let attribute = unsafe bytes.baseAddress?.assumingMemoryBound(to: nlattr.self),
          let count = Int32(exactly: bytes.count), unsafe mnl_attr_ok(attribute, count)
        else { return nil }
        return unsafe (
          Int(mnl_attr_get_type(attribute)), Int(mnl_attr_get_payload_len(attribute))
        )
      }
      guard let attribute else { return }
      let header = MemoryLayout<nlattr>.size
      body(
        attribute.type,
        rest.extracting(droppingFirst: header).extracting(first: attribute.value)
      )
      offset &+= (header &+ attribute.value &+ 3) & ~3
    }
  }

  /// Reads a structure of which every bit pattern is a value; `nil` where the span ends before it
  /// does.
  func loadTrivial<Value: BitwiseCopyable>(as type: Value.Type, at offset: Int) -> Value? {
    guard offset >= 0, byteCount &- offset >= MemoryLayout<Value>.size else { return nil }
    return unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: type)
  }

  // The value of an attribute. One of another size than its type has is as good as absent: `nil`.

  var uint8: UInt8? { byteCount == 1 ? loadTrivial(as: UInt8.self, at: 0) : nil }
  var uint16: UInt16? { byteCount == 2 ? loadTrivial(as: UInt16.self, at: 0) : nil }
  var uint32: UInt32? { byteCount == 4 ? loadTrivial(as: UInt32.self, at: 0) : nil }
  var uint64: UInt64? { byteCount == 8 ? loadTrivial(as: UInt64.self, at: 0) : nil }
  var int32: Int32? { byteCount == 4 ? loadTrivial(as: Int32.self, at: 0) : nil }

  /// All of its bytes.
  var octets: [UInt8] { unsafe withUnsafeBytes { unsafe Array($0) } }

  /// A text, up to its terminating zero or the end; bytes that are no UTF-8 become U+FFFD.
  var text: String {
    var bytes: [UInt8] = []
    for offset in 0..<byteCount {
      guard let byte = loadTrivial(as: UInt8.self, at: offset), byte != 0 else { break }
      bytes.append(byte)
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// An Ethernet address.
  var macAddress: MACAddress? {
    guard byteCount == 6 else { return nil }
    return MACAddress(truncating: bigEndian(from: 0, count: 6))
  }

  /// An IPv4 or IPv6 address, told apart by size.
  var ipAddress: IPAddress? {
    switch byteCount {
    case 4: IPAddress(v4: UInt32(truncatingIfNeeded: bigEndian(from: 0, count: 4)))
    case 16: IPAddress(v6High: bigEndian(from: 0, count: 8), low: bigEndian(from: 8, count: 8))
    default: nil
    }
  }

  private func bigEndian(from start: Int, count: Int) -> UInt64 {
    var value: UInt64 = 0
    for offset in start..<start &+ count {
      value = value << 8 | UInt64(loadTrivial(as: UInt8.self, at: offset) ?? 0)
    }
    return value
  }
}
