import Testing

/// Everything that makes namespaces and devices: the suites share one machine, and run one after
/// the other.
@Suite(
  .serialized, .enabled(if: isRoot, "needs root: it makes network namespaces and devices"))
enum KernelTests {}
