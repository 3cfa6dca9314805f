private import CLinux
private import Glibc
private import SystemPackage

/// What the host holds its own packets against: rules of the packet filter, and policies of IPsec.
///
/// The fast path takes datagrams from a device of the underlay, and puts them on it, below the IP
/// stack, so that none of this sees them. Whoever has such rules has written them for the
/// underlay's packets, too, or does not know that he has not. Asked without libnftables and nft(8),
/// which read every rule of the host.
package enum HostFilters {
  /// A chain that the kernel hands packets to.
  struct Chain: Hashable {
    var family: UInt8
    var table: String
    var name: String
    /// `NF_INET_...`, or `NF_NETDEV_...` for family netdev.
    var hook: UInt32
    var drops: Bool

    /// Whether packets between the underlay's devices and the host's own sockets come by: all but
    /// what is forwarded.
    var isOnTheWay: Bool {
      switch family {
      case NetfilterProtocol.inet, NetfilterProtocol.ipv4, NetfilterProtocol.ipv6:
        [
          OVX_NF_INET_PRE_ROUTING, OVX_NF_INET_LOCAL_IN, OVX_NF_INET_LOCAL_OUT,
          OVX_NF_INET_POST_ROUTING,
        ].contains(Int(hook))
      case NetfilterProtocol.netdev: hook == UInt32(OVX_NF_NETDEV_INGRESS)
      default: false
      }
    }

    /// Whether it is a switch's or a gateway's: neither has anything to say of what the switch
    /// itself sends.
    var isOurs: Bool {
      family == NetfilterProtocol.inet && (table == "ovx" || table.hasPrefix(UnderlayRules.prefix))
    }

    /// As nft(8) names it.
    var description: String {
      "chain \(name) of table \(NetfilterProtocol.name(of: family)) \(table)"
    }
  }

  /// What there is in the calling thread's network namespace, for people: the first that is found.
  ///
  /// - Returns: `nil` for nothing; that it cannot be found out is something.
  package static func first() -> String? {
    do throws(LinuxError) {
      if let chain = try firstChain() { return chain.description }
      if try hasPolicies() { return "policies of IPsec" }
    } catch {
      return "rules that cannot be read: \(error)"
    }
    // What iptables made before it was nftables is told by files alone.
    for (file, command) in [
      ("/proc/net/ip_tables_names", "iptables"), ("/proc/net/ip6_tables_names", "ip6tables"),
    ] {
      guard unsafe access(file, F_OK) == 0 else { continue }
      guard let names = Files.read(file) else { return "rules of \(command)-legacy" }
      if let name = names.split(separator: "\n").first {
        return "table \(name) of \(command)-legacy"
      }
    }
    return nil
  }

  /// The first chain on the way that does anything.
  private static func firstChain() throws(LinuxError) -> Chain? {
    guard
      var netlink = try netlink(of: NETLINK_NETFILTER, for: "rules of the packet filter")
    else { return nil }
    let chains = try netlink.dump(
      NetlinkRequest(nftables: NFT_MSG_GETCHAIN, flags: NLM_F_DUMP, family: 0),
      for: Netlink.Purpose(action: "list", subject: "chains of the packet filter"), key: \.self
    ) { Chain($0) }
    for chain in chains where chain.isOnTheWay && !chain.isOurs {
      if chain.drops { return chain }
      var request = NetlinkRequest(
        nftables: NFT_MSG_GETRULE, flags: NLM_F_DUMP, family: chain.family)
      request.put(NFTA_RULE_TABLE, chain.table)
      request.put(NFTA_RULE_CHAIN, chain.name)
      let rules = try netlink.dump(
        request, for: Netlink.Purpose(action: "list the rules of", subject: chain.description),
        key: \.self
      ) { message in
        // One is as good as all.
        message.type == Int(NFNL_SUBSYS_NFTABLES) << 8 | Int(NFT_MSG_NEWRULE.rawValue) ? 0 : nil
      }
      if !rules.isEmpty { return chain }
    }
    return nil
  }

  private static func hasPolicies() throws(LinuxError) -> Bool {
    guard var netlink = try netlink(of: NETLINK_XFRM, for: "policies of IPsec") else {
      return false
    }
    let policies = try netlink.dump(
      NetlinkRequest(
        type: Int(OVX_XFRM_MSG_GETPOLICY), flags: NLM_F_DUMP, family: 0 as UInt32),
      for: Netlink.Purpose(action: "list", subject: "policies of IPsec"), key: \.self
    ) { $0.type == Int(OVX_XFRM_MSG_NEWPOLICY) ? 0 : nil }
    return !policies.isEmpty
  }

  /// A socket of a family; `nil` where the kernel does not have it.
  private static func netlink(
    of family: Int32, for purpose: String
  ) throws(LinuxError) -> Netlink? {
    do throws(LinuxError) {
      return Netlink(try NetlinkSocket(purpose: purpose, netlinkFamily: family))
    } catch {
      if error.errno == .protocolNotSupported { return nil }
      throw error
    }
  }
}

extension HostFilters.Chain {
  /// Decodes a message; `nil` for a chain that others jump to.
  fileprivate init?(_ message: NetlinkMessage) {
    guard let header = message.family(as: nfgenmsg.self) else { return nil }
    var table: String?
    var name: String?
    var hook: UInt32?
    var drops = false
    message.forEachAttribute(after: MemoryLayout<nfgenmsg>.size) { type, value in
      switch type {
      case Int(NFTA_CHAIN_TABLE.rawValue): table = value.text
      case Int(NFTA_CHAIN_NAME.rawValue): name = value.text
      case Int(NFTA_CHAIN_POLICY.rawValue): drops = value.uint32?.byteSwapped == UInt32(OVX_NF_DROP)
      case Int(NFTA_CHAIN_HOOK.rawValue):
        value.forEachAttribute { type, value in
          if type == Int(NFTA_HOOK_HOOKNUM.rawValue) { hook = value.uint32?.byteSwapped }
        }
      default: break
      }
    }
    guard let table, let name, let hook else { return nil }
    self.init(family: header.nfgen_family, table: table, name: name, hook: hook, drops: drops)
  }
}
