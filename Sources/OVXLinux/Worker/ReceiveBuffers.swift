private import CLinux
private import Glibc
internal import OVXDatapath
internal import SystemPackage

/// The slots that frames are received into: 64 of them, each with headroom for outer headers and
/// room for a superframe.
///
/// They belong to a step and are used from the first one on, so those that are used at all stay in
/// the cache.
@safe struct ReceiveBuffers: ~Copyable {
  /// Reads in a step; a larger burst takes more steps.
  static let slotCount = 64
  /// Bytes in front of a frame: a virtio-net header, outer IPv6, UDP and VXLAN headers, and room to
  /// align them.
  static let headroom = 256
  /// Bytes of a frame at most: 64 KB, with its Ethernet header and tags, and what an IPv6 jumbo
  /// datagram might need.
  static let capacity = 68 << 10
  /// Bytes from slot to slot: an odd number of cache lines, so that the headers of different slots,
  /// which are what is touched of each frame, do not compete for the same sets of the caches.
  private static let stride = headroom + capacity + 64
  private static let hugePageSize = 2 << 20

  private let base: UnsafeMutableRawPointer
  private let mapping: UnsafeMutableRawPointer
  private let mappingSize: Int

  init() throws(LinuxError) {
    mappingSize = Self.slotCount * Self.stride + Self.hugePageSize
    guard let mapping = unsafe ovx_map_memory(mappingSize) else {
      throw LinuxError(
        action: "map",
        subject: "\(mappingSize >> 20) MiB for frames",
        errno: .latest,
        remedy: "raise the service's memory limit (MemoryMax=, LimitAS=)"
      )
    }
    unsafe self.mapping = unsafe mapping
    unsafe base = unsafe mapping.alignedUp(toMultipleOf: Self.hugePageSize)
    // Four pages instead of a thousand to look up; without them it works as well, only slower.
    _ = unsafe madvise(base, Self.slotCount * Self.stride, MADV_HUGEPAGE)
  }

  deinit {
    _ = unsafe munmap(mapping, mappingSize)
  }

  /// Where a slot's frame begins.
  func frame(_ slot: Int) -> UnsafeMutableRawPointer {
    unsafe base + (slot &* Self.stride &+ Self.headroom)
  }
}
