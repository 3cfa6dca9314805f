private import OVXLinux

/// Packet filters of others that drop what the host passes on, gateways' packets among it.
enum ForeignFilters {
  /// What to tell the operator of each; ours cannot let pass what another table drops.
  static func faults(_ tools: Tools) -> [String] {
    var faults: [String] = []
    for (table, chain) in droppingChains(in: tools.list("chains") ?? "") {
      let content = tools.list(["table"] + table.split(separator: " ").map(String.init)) ?? ""
      guard !content.contains(Gateway.transitPrefix) else { continue }
      faults.append(sentence("chain \(chain) of nftables table \(table)", chain))
    }
    if isLegacyFilterLoaded, let legacy = find(program: "iptables-legacy", in: Tools.searchPath),
      let rules = try? Tools.run(legacy, ["-S"]), rules.contains("-P FORWARD DROP"),
      !rules.contains(Gateway.transitPrefix)
    {
      faults.append(sentence("chain FORWARD of iptables-legacy", "FORWARD"))
    }
    if (tools.list("tables") ?? "").contains("inet firewalld"),
      !(tools.list(["table", "inet", "firewalld"]) ?? "").contains(Gateway.transitPrefix)
    {
      faults.append(
        "firewalld passes on nothing between zones, so that tenants get no further than their gateway; "
          + "`firewall-cmd --permanent --zone=trusted --add-interface=\(Gateway.transitPrefix)VNI`, for each gateway's device, and "
          + "`firewall-cmd --reload` let them")
    }
    return faults
  }

  private static var isLegacyFilterLoaded: Bool {
    Files.read("/proc/net/ip_tables_names")?.split(separator: "\n").contains("filter") ?? false
  }

  private static func sentence(_ culprit: String, _ chain: String) -> String {
    let place = chain == "FORWARD" ? "DOCKER-USER, where Docker runs, and else FORWARD" : chain
    return
      "\(culprit) drops what this host passes on (policy drop), so that tenants may get no further than their gateway; "
      + "`iptables -I CHAIN -i \(Gateway.transitPrefix)+ -j ACCEPT` and `-o \(Gateway.transitPrefix)+` let them, CHAIN being \(place)"
  }

  /// Chains of others at the hook for what is passed on whose policy it is to drop, as
  /// `nft list chains` tells them.
  static func droppingChains(in text: String) -> [(table: String, chain: String)] {
    OVXLinux.droppingChains(at: "forward", in: text).filter {
      !$0.table.hasPrefix("ip6") && $0.table != "inet ovx"
    }
  }
}
