private import CLinux
private import Glibc
package import OVXDatapath
private import SystemPackage

/// A connection as the kernel's connection tracking has it: what was sent first, and where the
/// answers come from.
package struct TrackedConnection: Sendable {
  /// The number of the protocol in IP: 6 for TCP.
  package var transport: UInt8
  /// Where its first packet was sent to, before any translation.
  package var destination: End
  /// Who answers; another than `destination` where that was translated.
  package var responder: End
  /// The attribute by which it is named to the kernel.
  fileprivate var tuple: [UInt8]
  fileprivate var isIPv6: Bool

  package struct End: Hashable, Sendable {
    package var address: IPAddress
    package var port: UInt16

    package init(_ address: IPAddress, _ port: UInt16) {
      self.address = address
      self.port = port
    }
  }

  /// Decodes a message; `nil` for a connection of a protocol without ports.
  fileprivate init?(_ message: NetlinkMessage) {
    guard let header = message.family(as: nfgenmsg.self) else { return nil }
    var tuple: [UInt8] = []
    var original = Tuple()
    var reply = Tuple()
    message.forEachAttribute(after: MemoryLayout<nfgenmsg>.size) { type, value in
      switch type {
      case Int(CTA_TUPLE_ORIG.rawValue):
        tuple = value.octets
        original = Tuple(value)
      case Int(CTA_TUPLE_REPLY.rawValue): reply = Tuple(value)
      default: break
      }
    }
    guard let transport = original.transport, let destination = original.destination,
      let responder = reply.source
    else { return nil }
    self.transport = transport
    self.destination = destination
    self.responder = responder
    self.tuple = tuple
    isIPv6 = Int32(header.nfgen_family) == AF_INET6
  }

  /// One direction.
  private struct Tuple {
    var transport: UInt8?
    var addresses: (source: IPAddress?, destination: IPAddress?) = (nil, nil)
    var ports: (source: UInt16?, destination: UInt16?) = (nil, nil)

    init() {}

    init(_ nest: RawSpan) {
      nest.forEachAttribute { type, value in
        switch type {
        case Int(CTA_TUPLE_IP.rawValue):
          value.forEachAttribute { type, value in
            switch type {
            case Int(CTA_IP_V4_SRC.rawValue), Int(CTA_IP_V6_SRC.rawValue):
              addresses.source = value.ipAddress
            case Int(CTA_IP_V4_DST.rawValue), Int(CTA_IP_V6_DST.rawValue):
              addresses.destination = value.ipAddress
            default: break
            }
          }
        case Int(CTA_TUPLE_PROTO.rawValue):
          value.forEachAttribute { type, value in
            switch type {
            case Int(CTA_PROTO_NUM.rawValue): transport = value.uint8
            case Int(CTA_PROTO_SRC_PORT.rawValue): ports.source = value.uint16?.byteSwapped
            case Int(CTA_PROTO_DST_PORT.rawValue): ports.destination = value.uint16?.byteSwapped
            default: break
            }
          }
        default: break
        }
      }
    }

    var source: End? { end(addresses.source, ports.source) }
    var destination: End? { end(addresses.destination, ports.destination) }

    private func end(_ address: IPAddress?, _ port: UInt16?) -> End? {
      guard let address, let port else { return nil }
      return End(address, port)
    }
  }
}

extension Netlink {
  /// Has the kernel forget connections of the calling thread's network namespace, so that the next
  /// packet of each is looked at as the first one is.
  ///
  /// - Parameter isStale: Which ones.
  /// - Throws: The kernel's error, such as where it has no connection tracking.
  package static func forgetConnections(
    where isStale: (TrackedConnection) -> Bool
  ) throws(LinuxError) {
    var netlink = Netlink(
      try NetlinkSocket(
        purpose: "tracked connections", flags: 0, netlinkFamily: NETLINK_NETFILTER))
    let group = Int(NFNL_SUBSYS_CTNETLINK) << 8
    let known = try netlink.dump(
      NetlinkRequest(
        type: group | Int(IPCTNL_MSG_CT_GET.rawValue), flags: NLM_F_DUMP,
        family: nfgenmsg(nfgen_family: 0, version: UInt8(NFNETLINK_V0), res_id: 0)),
      for: Purpose(action: "read", subject: "tracked connections"), key: \.tuple
    ) { TrackedConnection($0) }
    for connection in known where isStale(connection) {
      var request = NetlinkRequest(
        type: group | Int(IPCTNL_MSG_CT_DELETE.rawValue), flags: 0,
        family: nfgenmsg(
          nfgen_family: UInt8(connection.isIPv6 ? AF_INET6 : AF_INET),
          version: UInt8(NFNETLINK_V0), res_id: 0))
      request.put(Int(CTA_TUPLE_ORIG.rawValue) | Int(NLA_F_NESTED), bytes: connection.tuple)
      do throws(LinuxError) {
        try netlink.transact(
          request,
          for: Purpose(
            action: "forget", subject: "a connection to \(connection.destination.address)"))
      } catch {
        // It has ended by itself.
        if error.errno != .noSuchFileOrDirectory { throw error }
      }
    }
  }
}
