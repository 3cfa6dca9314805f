internal import OVXHost
internal import OVXLinux

/// The parts of the running switch that questions are put to.
struct RunningSwitch {
  /// What is in force, and why not all of it.
  let reconciler: Reconciler
  /// The host's devices.
  let kernel: KernelView
  /// Counters, tables, traces and captures.
  let dataplane: Switch
  /// The host's packet filter.
  let filter: UnderlayFilter
  /// What another process has told of gateways.
  let gateways = GatewayReports()
}
