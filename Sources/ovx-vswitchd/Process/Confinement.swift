private import CConfinement
private import Glibc
internal import Logging
private import SystemPackage

/// What the daemon takes from itself once it is set up: every system call that a switch does not
/// need, in all of its threads, and any way to more rights.
///
/// It cannot start a program any more, nor a process, nor make code: `Broker` asks docker
/// and podman in its place, and enters containers' networks. A call that is refused fails with
/// `EPERM`, and is named in the log, once each.
struct Confinement {
  /// Readable when something was refused; -1, which poll(2) passes over, where there is no filter.
  let descriptor: Int32

  /// Takes it away; with `isWanted` false, does nothing.
  init(isWanted: Bool, logger: Logger) {
    guard isWanted else {
      descriptor = -1
      logger.notice("no filter of system calls is in force, as --no-syscall-filter says")
      return
    }
    let status = ovx_confine()
    descriptor = max(status, -1)
    guard status < 0 else { return }
    logger.warning(
      "the kernel takes no filter of system calls (\(Errno(rawValue: 0 &- status))), so the daemon keeps all that its user may do; use a kernel built with CONFIG_SECCOMP_FILTER, or start it with --no-syscall-filter"
    )
  }

  /// Tells what was refused.
  func takeNews(_ logger: Logger) {
    while let name = unsafe ovx_next_refusal() {
      let call = unsafe String(cString: name)
      logger.warning(
        "the system call \(call) was refused (EPERM), as it is not among those that ovx-vswitchd needs; if something does not work for it, start ovx-vswitchd with --no-syscall-filter and report it"
      )
    }
  }
}
