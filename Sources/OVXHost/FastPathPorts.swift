internal import OVXControl
internal import OVXDatapath
internal import OVXLinux

// Which ports and VTEPs the fast path is used for, and what is said of it.

extension Reconciler {
  private var isFastPathWanted: Bool { desired.fastPath != .off }

  var usesFastPath: Bool { isFastPathWanted && fastPathFault == nil }

  /// How it reaches a VTEP; `nil` where it does not, or is not to.
  func fastPath(to peer: DesiredState.Peer) -> FastPathRoute? {
    usesFastPath && passedFilter == nil ? underlay.fastPath(to: peer) : nil
  }

  /// What there is of the host's rules that the fast path would pass by and is not to.
  func lookForPassedFilter() -> String? {
    desired.fastPath == .auto && fastPathFault == nil ? kernel.passedFilter() : nil
  }

  /// Has the data plane use a fast path, or none, as is desired; returns why it does not.
  func startFastPath() -> Fault? {
    do throws(LinuxError) {
      try dataplane.useFastPath(isFastPathWanted)
      return nil
    } catch {
      return Fault(error)
    }
  }

  /// Has the data plane forward everything itself for a while.
  package func setFastPathAside() { try? dataplane.useFastPath(false) }

  /// Has it use the fast path again that was set aside.
  package func takeFastPathUp() {
    guard usesFastPath, (try? dataplane.useFastPath(true)) != nil else { return }
    // Its devices are those of a topology.
    dataplane.apply(topology)
  }

  /// A port's device as the data plane has it.
  func device(of name: String) -> Topology.Device? {
    var device = devices.device(of: name)
    device?.fastPathIndex = fastPathIndex(of: name)
    return device
  }

  /// The number of a port's device, where the fast path may be used for it.
  ///
  /// It hands frames to the other end of a veth, which takes them from another namespace only.
  private func fastPathIndex(of name: String) -> UInt32? {
    guard usesFastPath, let link = devices.link(of: name), link.kind == "veth",
      link.peerNamespace != nil
    else { return nil }
    return UInt32(bitPattern: link.index)
  }

  /// How it stands with the fast path of a port that has a device; `nil` where the switch is to
  /// have none.
  package func describeFastPath(ofDevice name: String) -> String? {
    guard isFastPathWanted else { return nil }
    if let fastPathFault { return "off: \(fastPathFault.sentence)" }
    guard let index = fastPathIndex(of: name) else {
      return "off: the device is no veth whose other end is in another network namespace"
    }
    return dataplane.fastPathState(ofDevice: index, isUnderlay: false).sentence
  }

  /// How it stands with the fast path to a VTEP; `nil` where the switch is to have none.
  package func describeFastPath(to peer: DesiredState.Peer) -> String? {
    guard isFastPathWanted else { return nil }
    if let fastPathFault { return "off: \(fastPathFault.sentence)" }
    guard let route = underlay.fastPath(to: peer) else {
      return "off: \(underlay.fastPathFault(to: peer))"
    }
    if let passedFilter {
      return
        "off: it would pass by what the host holds its packets against (\(passedFilter)); "
        + "other_config:fast-path=on does so"
    }
    return dataplane.fastPathState(ofDevice: route.device, isUnderlay: true).sentence
  }
}

extension FastPathState {
  /// What people read of it.
  fileprivate var sentence: String {
    switch self {
    case .off: "off"
    case .ready: "ready"
    case .attached: "in use"
    case .refused(let errno): "off: the kernel refuses its program (\(errno))"
    }
  }
}
