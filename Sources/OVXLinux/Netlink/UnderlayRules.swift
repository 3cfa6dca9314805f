internal import CLinux
private import Glibc
package import OVXDatapath
private import SystemPackage

/// Rules of the packet filter that let nobody but a switch send to the UDP ports of its remote
/// VTEPs.
///
/// VXLAN believes an address: to a remote, whatever comes from this host's address is this host's
/// switch. So what programs of the host send there is dropped, and what the host forwards for
/// containers, whose addresses it may translate to its own. The switch's own sockets are told from
/// all others by the group that they were opened with (`ovx_socket_group`).
///
/// They stand in a table of their own, at the end of the way out (after others have translated
/// addresses), and touch no other. As `nft list ruleset` shows them:
///
///     table inet ovx-underlay-5d1f9e02 {
///       counter refused { packets 0 bytes 0 }
///       set remotes4 { type ipv4_addr . inet_service; elements = { 192.168.5.3 . 4789 } }
///       set remotes6 { type ipv6_addr . inet_service }
///       chain postrouting {
///         type filter hook postrouting priority 200; policy accept;
///         meta l4proto != udp accept
///         meta skgid 4294841013 accept
///         ip daddr . udp dport @remotes4 counter name "refused" drop
///         ip6 daddr . udp dport @remotes6 counter name "refused" drop
///       }
///     }
///
/// Of a fragmented datagram the first fragment has the port, and without it the others are worth
/// nothing.
package struct UnderlayRules: Sendable {
  /// What the names of all switches' tables begin with.
  static let prefix = "ovx-underlay-"
  /// The table's name; its family is `inet`.
  package let table: String
  /// What people read in the table, up to 127 bytes.
  private let comment: String

  /// Where VXLAN is sent to.
  package struct Destination: Hashable, Sendable {
    package var address: IPAddress
    package var port: UInt16

    package init(address: IPAddress, port: UInt16) {
      self.address = address
      self.port = port
    }
  }

  /// Describes the rules of one switch.
  ///
  /// - Parameter owner: What no other switch of the network namespace has: the path of its
  ///   database.
  package init(owner: String) {
    // FNV-1a: the same number at each start.
    let hash = owner.utf8.reduce(0x811C_9DC5 as UInt32) { ($0 ^ UInt32($1)) &* 0x0100_0193 }
    let digits = String(hash, radix: 16)
    table = Self.prefix + String(repeating: "0", count: 8 - digits.count) + digits
    let path = String(decoding: Array(owner.utf8).suffix(90), as: UTF8.self)
    comment = "made and kept by ovx-vswitchd for \(path)"
  }

  /// Whether this process, or its broker, can open sockets that the rules let pass.
  package static var canTellSockets: Bool {
    guard let socket = try? NetworkNamespace.openHere(.underlaySocket(isIPv6: false)) else {
      return false
    }
    return ovx_has_socket_group(socket.rawValue)
  }

  /// The comment as nft(8) keeps it (`NFTNL_UDATA_TABLE_COMMENT`): type, length, text with its
  /// terminating zero.
  fileprivate var userdata: [UInt8] {
    [0, UInt8(truncatingIfNeeded: comment.utf8.count + 1)] + comment.utf8 + [0]
  }

  fileprivate func purpose(_ action: String) -> Netlink.Purpose {
    Netlink.Purpose(action: action, subject: "nftables table inet \(table)") { errno in
      switch errno {
      case .invalidArgument, .notSupported, .protocolNotSupported, .noSuchFileOrDirectory:
        "it takes a kernel with nf_tables (CONFIG_NF_TABLES_INET)"
      default: nil
      }
    }
  }
}

extension Nftables {
  /// Makes the table, in the place of what is there of that name.
  package mutating func install(
    _ rules: UnderlayRules, for destinations: some Collection<UnderlayRules.Destination>
  ) throws(LinuxError) {
    var transaction = NftablesTransaction()
    transaction.delete(rules)
    transaction.make(rules)
    transaction.put(destinations, to: rules)
    transaction.addRules(rules)
    try commit(transaction, for: rules.purpose("make"))
  }

  /// Changes the destinations of a table that is there.
  ///
  /// - Throws: Also where the table is otherwise than it was made.
  package mutating func change(
    _ rules: UnderlayRules, adding new: some Collection<UnderlayRules.Destination>,
    removing old: some Collection<UnderlayRules.Destination>
  ) throws(LinuxError) {
    guard !new.isEmpty || !old.isEmpty else { return }
    var transaction = NftablesTransaction()
    transaction.put(new, to: rules)
    transaction.put(old, to: rules, as: NFT_MSG_DELSETELEM)
    try commit(transaction, for: rules.purpose("change"))
  }

  /// Removes the table, where there is one.
  package mutating func remove(_ rules: UnderlayRules) throws(LinuxError) {
    guard try exists(rules) else { return }
    var transaction = NftablesTransaction()
    transaction.delete(rules)
    try commit(transaction, for: rules.purpose("remove"))
  }

  /// Whether the table is there.
  package mutating func exists(_ rules: UnderlayRules) throws(LinuxError) -> Bool {
    var request = NetlinkRequest(nftables: NFT_MSG_GETTABLE)
    request.put(NFTA_TABLE_NAME, rules.table)
    do {
      try ask(request, for: rules.purpose("find")) { _ in }
      return true
    } catch  where error.errno == .noSuchFileOrDirectory {
      return false
    }
  }

  /// Packets that were refused since the table was made.
  package mutating func refused(_ rules: UnderlayRules) throws(LinuxError) -> UInt64 {
    var request = NetlinkRequest(nftables: NFT_MSG_GETOBJ)
    request.put(NFTA_OBJ_TABLE, rules.table)
    request.put(NFTA_OBJ_NAME, UnderlayRules.counter)
    request.put(NFTA_OBJ_TYPE, UInt32(NFT_OBJECT_COUNTER))
    var packets: UInt64 = 0
    try ask(request, for: rules.purpose("read the counter of")) { message in
      message.forEachAttribute(after: MemoryLayout<nfgenmsg>.size) { type, data in
        guard type == Int(NFTA_OBJ_DATA.rawValue) else { return }
        data.forEachAttribute { type, value in
          if type == Int(NFTA_COUNTER_PACKETS.rawValue), let count = value.uint64 {
            packets = UInt64(bigEndian: count)
          }
        }
      }
    }
    return packets
  }
}

extension UnderlayRules {
  fileprivate static let chain = "postrouting"
  fileprivate static let counter = "refused"

  /// One of the two sets of destinations, and where its addresses stand in packets.
  fileprivate struct Family {
    var set: String
    var number: UInt32
    /// NFPROTO_...
    var proto: UInt8
    /// nft(8)'s numbers for the types of an address and a port, from which it prints elements.
    var keyType: UInt32
    var addressLength: UInt32
    var addressOffset: UInt32
    /// The 4-byte register behind the address.
    var portRegister: UInt32

    static let ipv4 = Family(
      set: "remotes4", number: 1, proto: NetfilterProtocol.ipv4, keyType: 7 << 6 | 13,
      addressLength: 4, addressOffset: 16, portRegister: NFT_REG32_01.rawValue)
    static let ipv6 = Family(
      set: "remotes6", number: 2, proto: NetfilterProtocol.ipv6, keyType: 8 << 6 | 13,
      addressLength: 16, addressOffset: 24, portRegister: NFT_REG32_04.rawValue)
    static let all = [ipv4, ipv6]

    /// Elements that fit one message.
    static let elementsPerMessage = 64
  }
}

extension UnderlayRules.Destination {
  /// Address and port, the latter in a field of 4 bytes.
  fileprivate var key: [UInt8] {
    address.octets + [UInt8(port >> 8), UInt8(truncatingIfNeeded: port), 0, 0]
  }
}

extension NftablesTransaction {
  /// The last hook on the way out (`NF_INET_POST_ROUTING` of <linux/netfilter.h>).
  private static let postrouting: UInt32 = 4

  /// Sees to it that there is no table of that name; deleting alone would fail where there is none.
  fileprivate mutating func delete(_ rules: UnderlayRules) {
    append(NFT_MSG_NEWTABLE, flags: NLM_F_CREATE) { $0.put(NFTA_TABLE_NAME, rules.table) }
    append(NFT_MSG_DELTABLE) { $0.put(NFTA_TABLE_NAME, rules.table) }
  }

  /// Makes the table with its counter, sets and chain, all empty.
  fileprivate mutating func make(_ rules: UnderlayRules) {
    append(NFT_MSG_NEWTABLE, flags: NLM_F_CREATE | NLM_F_EXCL) {
      $0.put(NFTA_TABLE_NAME, rules.table)
      $0.put(NFTA_TABLE_USERDATA, bytes: rules.userdata)
    }
    append(NFT_MSG_NEWOBJ, flags: NLM_F_CREATE | NLM_F_EXCL) {
      $0.put(NFTA_OBJ_TABLE, rules.table)
      $0.put(NFTA_OBJ_NAME, UnderlayRules.counter)
      $0.put(NFTA_OBJ_TYPE, UInt32(NFT_OBJECT_COUNTER))
      $0.nest(NFTA_OBJ_DATA) { _ in }
    }
    for family in UnderlayRules.Family.all {
      append(NFT_MSG_NEWSET, flags: NLM_F_CREATE | NLM_F_EXCL) {
        $0.put(NFTA_SET_TABLE, rules.table)
        $0.put(NFTA_SET_NAME, family.set)
        $0.put(NFTA_SET_ID, family.number)
        $0.put(NFTA_SET_KEY_TYPE, family.keyType)
        $0.put(NFTA_SET_KEY_LEN, family.addressLength + 4)
      }
    }
    append(NFT_MSG_NEWCHAIN, flags: NLM_F_CREATE | NLM_F_EXCL) {
      $0.put(NFTA_CHAIN_TABLE, rules.table)
      $0.put(NFTA_CHAIN_NAME, UnderlayRules.chain)
      $0.nest(NFTA_CHAIN_HOOK) {
        $0.put(NFTA_HOOK_HOOKNUM, Self.postrouting)
        // Behind the translation of addresses (100).
        $0.put(NFTA_HOOK_PRIORITY, UInt32(200))
      }
      $0.put(NFTA_CHAIN_POLICY, NetfilterVerdict.accept.rawValue)
      $0.put(NFTA_CHAIN_TYPE, "filter")
    }
  }

  /// Puts destinations in their sets, or takes them out.
  fileprivate mutating func put(
    _ destinations: some Collection<UnderlayRules.Destination>, to rules: UnderlayRules,
    as type: nf_tables_msg_types = NFT_MSG_NEWSETELEM
  ) {
    for family in UnderlayRules.Family.all {
      var rest = destinations.filter { $0.address.octets.count == Int(family.addressLength) }[...]
      while !rest.isEmpty {
        let some = rest.prefix(UnderlayRules.Family.elementsPerMessage)
        rest = rest.dropFirst(some.count)
        append(type, flags: type == NFT_MSG_NEWSETELEM ? NLM_F_CREATE : 0) {
          $0.put(NFTA_SET_ELEM_LIST_TABLE, rules.table)
          $0.put(NFTA_SET_ELEM_LIST_SET, family.set)
          $0.nest(NFTA_SET_ELEM_LIST_ELEMENTS) { list in
            for destination in some {
              list.nest(NFTA_LIST_ELEM) {
                $0.nest(NFTA_SET_ELEM_KEY) { $0.put(NFTA_DATA_VALUE, bytes: destination.key) }
              }
            }
          }
        }
      }
    }
  }

  fileprivate mutating func addRules(_ rules: UnderlayRules) {
    let udp = UInt8(truncatingIfNeeded: IPPROTO_UDP)
    addRule(rules) {
      $0.load(NFT_META_L4PROTO)
      $0.compare(NFT_CMP_NEQ, [udp])
      $0.verdict(.accept)
    }
    // False where there is no socket of this host, as with what is forwarded.
    addRule(rules) {
      $0.load(NFT_META_SKGID)
      $0.compare(NFT_CMP_EQ, unsafe withUnsafeBytes(of: ovx_socket_group) { unsafe Array($0) })
      $0.verdict(.accept)
    }
    for family in UnderlayRules.Family.all {
      addRule(rules) {
        $0.load(NFT_META_NFPROTO)
        $0.compare(NFT_CMP_EQ, [family.proto])
        $0.load(NFT_META_L4PROTO)
        $0.compare(NFT_CMP_EQ, [udp])
        $0.load(
          NFT_PAYLOAD_NETWORK_HEADER, offset: family.addressOffset, length: family.addressLength,
          register: NFT_REG_1.rawValue)
        $0.load(
          NFT_PAYLOAD_TRANSPORT_HEADER, offset: 2, length: 2, register: family.portRegister)
        $0.look(in: family.set)
        $0.count(UnderlayRules.counter)
        $0.verdict(.drop)
      }
    }
  }

  private mutating func addRule(
    _ rules: UnderlayRules, _ expressions: (inout NetlinkRequest) -> Void
  ) {
    append(NFT_MSG_NEWRULE, flags: NLM_F_CREATE | NLM_F_APPEND) {
      $0.put(NFTA_RULE_TABLE, rules.table)
      $0.put(NFTA_RULE_CHAIN, UnderlayRules.chain)
      $0.nest(NFTA_RULE_EXPRESSIONS, expressions)
    }
  }
}
