internal import OVXControl
internal import OVXDatapath
private import OVXHost
internal import OVXLinux

/// Finds out which remote VTEPs are there: by what comes from them, which the data plane counts,
/// and by echo requests.
///
/// Nothing is done before somebody asks, and nothing is remembered for longer than that goes on.
final class RemoteSigns {
  /// VTEPs that are sent echo requests at a time; each has a socket.
  private static let inquiryLimit = 256
  /// Milliseconds between two echo requests at least.
  private static let pause: Int64 = 50
  /// Milliseconds after the last question until it is forgotten that there was one.
  private static let patience: Int64 = 10_000

  private final class Asked {
    let probe: PathProbe
    var last: Int64
    var echoes: UInt64 = 0

    init(_ probe: consuming PathProbe, at now: Int64) {
      self.probe = probe
      last = now
    }
  }

  private let running: RunningSwitch
  private var asked: [IPAddress: Asked] = [:]

  init(_ running: RunningSwitch) { self.running = running }

  /// When `work` has something to do, in milliseconds on the monotonic clock; `nil` for never.
  var next: Int64? { asked.values.map { $0.last + Self.patience }.min() }

  /// Forgets VTEPs that nobody has asked for lately.
  func work(now: Int64) { asked = asked.filter { now - $0.value.last < Self.patience } }

  /// What has come from some VTEPs until now; has each sent an echo request, for an answer that the
  /// next question gives.
  ///
  /// - Parameters:
  ///   - vteps: Whose signs are wanted.
  ///   - now: Milliseconds on the monotonic clock.
  /// - Returns: The signs of those that are a remote of some tunnel.
  func signs(of vteps: [IPAddress], now: Int64) -> [SignsOfLife] {
    let wanted = Set(vteps)
    var peers: [RemoteVTEPID] = []
    var owners: [IPAddress] = []
    for (port, tunnel) in running.reconciler.desired.tunnels {
      for remote in tunnel.remotes where wanted.contains(remote.address) {
        guard let peer = running.reconciler.remoteVTEP(remote.address, of: port) else { continue }
        peers.append(peer)
        owners.append(remote.address)
      }
    }
    guard !peers.isEmpty else { return [] }
    var signs: [IPAddress: SignsOfLife] = [:]
    for counts in running.dataplane.performOnAll({ [peers] in $0.signs(of: peers) }) {
      for (vtep, count) in zip(owners, counts) {
        signs[vtep, default: SignsOfLife(vtep: vtep)].frames &+= count
      }
    }
    for vtep in signs.keys { signs[vtep]?.echoes = echoes(of: vtep, now: now) }
    return signs.values.sorted { $0.vtep < $1.vtep }
  }

  private func echoes(of vtep: IPAddress, now: Int64) -> UInt64 {
    if let known = asked[vtep] {
      if !known.probe.takeAnswers().isEmpty { known.echoes &+= 1 }
      if now - known.last >= Self.pause {
        known.probe.send(byteCount: 64)
        known.last = now
      }
      return known.echoes
    }
    guard asked.count < Self.inquiryLimit else { return 0 }
    do throws(LinuxError) {
      let local = running.reconciler.configuration.host.localIP
      let new = Asked(try PathProbe(to: vtep, from: local), at: now)
      new.probe.send(byteCount: 64)
      asked[vtep] = new
    } catch {
      // There is no way to it, so nothing comes back.
    }
    return 0
  }
}
