internal import CLinux
private import Glibc

/// The expressions of a rule, one after the other; each goes on only where the one before it was
/// true.
///
/// Where no register is named it is the first, of 16 bytes.
extension NetlinkRequest {
  /// Loads what the kernel knows of the packet.
  mutating func load(_ key: nft_meta_keys) {
    expression("meta") {
      $0.put(NFTA_META_DREG, NFT_REG_1.rawValue)
      $0.put(NFTA_META_KEY, key.rawValue)
    }
  }

  /// Loads bytes of the packet; false where there are none, as in the second fragment of a
  /// datagram.
  mutating func load(
    _ base: nft_payload_bases, offset: UInt32, length: UInt32, register: UInt32
  ) {
    expression("payload") {
      $0.put(NFTA_PAYLOAD_DREG, register)
      $0.put(NFTA_PAYLOAD_BASE, base.rawValue)
      $0.put(NFTA_PAYLOAD_OFFSET, offset)
      $0.put(NFTA_PAYLOAD_LEN, length)
    }
  }

  /// Compares what was loaded.
  mutating func compare(_ operation: nft_cmp_ops, _ bytes: [UInt8]) {
    expression("cmp") {
      $0.put(NFTA_CMP_SREG, NFT_REG_1.rawValue)
      $0.put(NFTA_CMP_OP, operation.rawValue)
      $0.nest(NFTA_CMP_DATA) { $0.put(NFTA_DATA_VALUE, bytes: bytes) }
    }
  }

  /// Looks what was loaded up in a set.
  mutating func look(in set: String) {
    expression("lookup") {
      $0.put(NFTA_LOOKUP_SET, set)
      $0.put(NFTA_LOOKUP_SREG, NFT_REG_1.rawValue)
    }
  }

  /// Counts the packet.
  mutating func count(_ counter: String) {
    expression("objref") {
      $0.put(NFTA_OBJREF_IMM_TYPE, UInt32(NFT_OBJECT_COUNTER))
      $0.put(NFTA_OBJREF_IMM_NAME, counter)
    }
  }

  /// Ends with a verdict.
  mutating func verdict(_ verdict: NetfilterVerdict) {
    expression("immediate") {
      $0.put(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT.rawValue)
      $0.nest(NFTA_IMMEDIATE_DATA) {
        $0.nest(NFTA_DATA_VERDICT) { $0.put(NFTA_VERDICT_CODE, verdict.rawValue) }
      }
    }
  }

  private mutating func expression(_ name: String, _ build: (inout NetlinkRequest) -> Void) {
    nest(NFTA_LIST_ELEM) {
      $0.put(NFTA_EXPR_NAME, name)
      $0.nest(NFTA_EXPR_DATA, build)
    }
  }
}

/// What becomes of a packet (`NF_...` of <linux/netfilter.h>).
enum NetfilterVerdict: UInt32 {
  case drop = 0
  case accept = 1
}
