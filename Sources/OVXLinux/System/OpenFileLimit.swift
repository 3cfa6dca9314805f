private import Glibc

/// How many files the process may have open.
package enum OpenFileLimit {
  /// Raises the limit as far as the administrator permits, and further where that is not enough and
  /// the process may.
  ///
  /// - Parameter goal: Descriptors that are needed; 0 for as many as there may be.
  /// - Returns: The limit that holds now.
  package static func raise(atLeast goal: Int = 0) -> Int {
    var limit = rlimit()
    guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else {
      return 1024
    }
    let goal = rlim_t(clamping: goal)
    if limit.rlim_max < goal {
      // Only a privileged process may go past its hard limit; if this one may not, it goes as far
      // as it can.
      var raised = rlimit(rlim_cur: goal, rlim_max: goal)
      _ = unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &raised)
      _ = unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }
    if limit.rlim_cur < limit.rlim_max {
      limit.rlim_cur = limit.rlim_max
      _ = unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
      _ = unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }
    return Int(clamping: limit.rlim_cur)
  }
}
