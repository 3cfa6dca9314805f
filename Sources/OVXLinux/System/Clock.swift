private import CLinux
private import Glibc

/// Microseconds on a clock that nobody sets.
package func monotonicMicroseconds() -> Int64 {
  var now = timespec()
  unsafe clock_gettime(CLOCK_MONOTONIC, &now)
  return Int64(now.tv_sec) * 1_000_000 + Int64(now.tv_nsec) / 1000
}

/// Milliseconds on the same clock.
package func monotonicMilliseconds() -> Int64 { monotonicMicroseconds() / 1000 }

/// Seconds on the same clock.
package func monotonicSeconds() -> Int64 { monotonicMilliseconds() / 1000 }
