private import CLinux
private import Glibc
private import OVXDatapath

// What the frame path costs inside the process, without a kernel: nanoseconds per frame and
// verdict, by batch size, and what a table of a million addresses adds. Run it with `swift run -c
// release ovx-benchmark`; the figures are medians of 21 rounds, each alone on its core as far as
// the machine allows, and worth comparing within one run only.

@main
enum Benchmark {
  static func main() {
    // First, while the heap has nothing to give that was used before.
    let bytes = Bench.bytesPerAddress(1_000_000)
    print("memory of 1,000,000 learned addresses, bytes of each:", column(bytes))

    print("\nframe path, ns per frame (median of 21 rounds)")
    print("verdict                     batch 1    batch 8   batch 64")
    for verdict in Verdict.allCases {
      let figures = [1, 8, 64].map { batch -> String in
        var bench = Bench(hosts: 512)
        return column(bench.nanoseconds(verdict, batch: batch))
      }
      print(verdict.rawValue.padded(to: 24), figures.joined(separator: " "))
    }

    print("\naddress table, ns per frame of a random known pair, batch 64")
    for hosts in [1_000, 10_000, 100_000, 1_000_000] {
      var bench = Bench(hosts: hosts)
      print(String(hosts).padded(to: 24), column(bench.nanoseconds(.local, batch: 64)))
    }

    print("\nflooding, ns per frame to so many remote VTEPs, batch 8")
    for remotes in [1, 10, 100] {
      var bench = Bench(hosts: 2, remotes: remotes)
      print(String(remotes).padded(to: 24), column(bench.nanoseconds(.flood, batch: 8)))
    }

    print("\n64 KB, microseconds (median of 21 rounds)")
    for (name, figure) in LargeFrames().figures() {
      print(name.padded(to: 40), column(figure / 1000))
    }

    print("\na topology of so many ports, microseconds")
    print("                            compile       copy       swap")
    for ports in [10, 100, 1000] {
      let times = Bench.microsecondsToApply(ports: ports)
      print(
        String(ports).padded(to: 24), column(times.compile), column(times.copy), column(times.swap))
    }

    var bench = Bench(hosts: 512)
    _ = bench.nanoseconds(.local, batch: 64)
    let before = mallinfo2().uordblks
    bench.run(.local, batch: 64, rounds: 1_000_000 / 64)
    bench.run(.encapsulate, batch: 64, rounds: 1_000_000 / 64)
    print("\nheap growth over 2,000,000 frames: \(mallinfo2().uordblks - before) bytes")
  }

  static func column(_ value: Double) -> String {
    let tenths = Int((value * 10).rounded())
    return "\(tenths / 10).\(tenths % 10)".leftPadded(to: 10)
  }
}

enum Verdict: String, CaseIterable {
  /// From one device port to a known address on another.
  case local = "device to device"
  case encapsulate = "device to tunnel"
  case decapsulate = "tunnel to device"
  case unknownVNI = "unknown VNI, dropped"
  case flood = "flood to 8 ports"
  /// The same with a UDP datagram in each frame, so that there are headers to look at.
  case localUDP = "UDP, device to device"
  case encapsulateUDP = "UDP, device to tunnel"
  case decapsulateUDP = "UDP, tunnel to device"

  var isFromDevice: Bool {
    self != .decapsulate && self != .unknownVNI && self != .decapsulateUDP
  }

  /// The verdict without regard to what is in the frames.
  var withoutUDP: Verdict {
    switch self {
    case .localUDP: .local
    case .encapsulateUDP: .encapsulate
    case .decapsulateUDP: .decapsulate
    case .local, .encapsulate, .decapsulate, .unknownVNI, .flood: self
    }
  }
}

extension String {
  func padded(to width: Int) -> String {
    self + String(repeating: " ", count: max(0, width - count))
  }

  func leftPadded(to width: Int) -> String {
    String(repeating: " ", count: max(0, width - count)) + self
  }
}
