private import CLinux
private import Glibc
internal import OVXDatapath
private import SystemPackage

/// A way to put whole superframes on a device of the underlay: a TAP, and traffic control that
/// redirects to the device whatever is written to it.
///
/// A packet socket would be simpler, but knows no superframes inside of tunnels. What is written
/// has an `InjectionHeader` in front. It skips all that the kernel does on the way out of a host:
/// routing, the neighbor table, the output chains of firewalls, IPsec. The device's own queueing
/// discipline it does not skip.
///
/// The TAP is not persistent. With the process that has it open it goes, and what is attached to
/// it; so nothing is left behind by one that is killed.
package struct Injector: ~Copyable, Sendable {
  let descriptor: Descriptor

  /// Makes one in the calling thread's network namespace.
  ///
  /// Before it is connected to the device, a superframe is written to it, to find out whether the
  /// kernel understands.
  ///
  /// - Parameters:
  ///   - link: The device of the underlay.
  ///   - netlink: Of the same namespace.
  ///   - prepare: Is given the TAP while it is still down.
  /// - Returns: The injector, connected.
  /// - Throws: What the kernel refuses; `EINVAL` of one before 6.17.
  package static func open(
    to link: Link, _ netlink: inout Netlink, prepare: (Link) -> Void
  ) throws(LinuxError) -> Injector {
    let subject = "whole superframes on \(link.name)"
    func check(_ result: Int32) throws(LinuxError) {
      guard result < 0 else { return }
      let errno = Errno(rawValue: -result)
      throw LinuxError(
        action: "send", subject: subject, errno: errno,
        remedy: errno == .invalidArgument ? "it takes Linux 6.17 or later" : nil)
    }
    let tun: Descriptor
    do throws(Errno) { tun = try NetworkNamespace.openHere(.tun) } catch {
      throw LinuxError(action: "send", subject: subject, errno: error)
    }
    let number = tun.rawValue
    let injector = Injector(descriptor: tun)
    // A name that is free, as it has a random number in it.
    let name = "ovxi\(UInt32.random(in: 0...UInt32.max))"
    try check(unsafe ovx_attach_tap(number, name, false))
    try check(ovx_set_tap_header_size(number, Int32(InjectionHeader.kernelByteCount)))
    let offloads =
      ovx_tun_checksum | ovx_tun_tcp4 | ovx_tun_tcp6 | ovx_tun_udp | ovx_tun_tunnel
    try check(ovx_set_tap_offloads(number, UInt(offloads)))
    guard let tap = try netlink.link(named: name) else {
      throw LinuxError(action: "find", subject: name, errno: .operationNotSupportedByDevice)
    }
    try netlink.setAlias("ovx: superframes to \(link.name)", of: tap)
    prepare(tap)
    try netlink.setUp(true, tap)
    try check(injector.writeProbe())
    try netlink.redirect(from: tap, to: link)
    return injector
  }

  /// Takes the descriptor out.
  package consuming func takeDescriptor() -> Descriptor { descriptor }

  /// Writes a superframe that no host takes for its own; 0 or the negative of errno.
  private borrowing func writeProbe() -> Int32 {
    let bytes = InjectionHeader.probe
    let written = unsafe write(descriptor.rawValue, bytes, bytes.count)
    return written < 0 ? -errno : 0
  }
}

extension Netlink {
  /// Redirects all that a device receives to another one, which sends it.
  ///
  /// - Throws: Among others `ENOENT` and `EOPNOTSUPP` of a kernel without the means: clsact, u32
  ///   and mirred.
  fileprivate mutating func redirect(from link: Link, to target: Link) throws(LinuxError) {
    let purpose = Purpose(action: "redirect superframes to", subject: target.name) { errno in
      errno == .noSuchFileOrDirectory || errno == .notSupported
        ? "the kernel needs sch_ingress, cls_u32 and act_mirred" : nil
    }
    var family = tcmsg()
    family.tcm_ifindex = link.index
    family.tcm_parent = 0xFFFF_FFF1  // TC_H_CLSACT
    family.tcm_handle = 0xFFFF_0000
    var discipline = NetlinkRequest(
      type: Int(RTM_NEWQDISC), flags: NLM_F_CREATE | NLM_F_EXCL, family: family)
    discipline.put(Int(TCA_KIND), "clsact")
    try transact(discipline, for: purpose)

    family.tcm_parent = 0xFFFF_FFF2  // the ingress of clsact
    family.tcm_handle = 0
    // Priority 1, all protocols (ETH_P_ALL in network byte order).
    family.tcm_info = 1 << 16 | UInt32(UInt16(3).bigEndian)
    var filter = NetlinkRequest(
      type: Int(RTM_NEWTFILTER), flags: NLM_F_CREATE | NLM_F_EXCL, family: family)
    filter.put(Int(TCA_KIND), "u32")
    filter.nest(Int(TCA_OPTIONS)) { options in
      // struct tc_u32_sel: terminal, one key, whose mask of zero matches everything.
      options.put(Int(TCA_U32_SEL), bytes: [1, 0, 1] + [UInt8](repeating: 0, count: 29))
      options.nest(Int(TCA_U32_ACT)) { actions in
        actions.nest(1) { action in
          action.put(Int(TCA_ACT_KIND), "mirred")
          action.nest(Int(TCA_ACT_OPTIONS)) { parameters in
            var mirred = tc_mirred()
            mirred.action = TC_ACT_STOLEN
            mirred.eaction = TCA_EGRESS_REDIR
            mirred.ifindex = UInt32(bitPattern: target.index)
            parameters.put(
              Int(TCA_MIRRED_PARMS), bytes: unsafe withUnsafeBytes(of: mirred) { unsafe Array($0) })
          }
        }
      }
    }
    try transact(filter, for: purpose)
  }
}
