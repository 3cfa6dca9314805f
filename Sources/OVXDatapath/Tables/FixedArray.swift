private import Glibc

/// A fixed number of plain values in one piece of memory: what the tables of the frame path are
/// made of.
///
/// Unlike an array it is owned by one place, is never copied, counted or grown, and hands out
/// places that stay where they are. An index out of range stops the program; indices never come
/// from a frame without a check at the door.
@safe
package struct FixedArray<Element: BitwiseCopyable>: ~Copyable {
  private let base: UnsafeMutablePointer<Element>
  package let count: Int

  /// Makes an array of equal elements.
  package init(repeating element: Element, count: Int) {
    unsafe base = Self.allocate(count)
    unsafe base.initialize(repeating: element, count: count)
    self.count = count
  }

  /// Makes an array of the elements of a collection.
  package init(_ elements: some Collection<Element>) {
    unsafe base = Self.allocate(elements.count)
    let buffer = unsafe UnsafeMutableBufferPointer(start: base, count: elements.count)
    _ = unsafe buffer.initialize(fromContentsOf: elements)
    count = elements.count
  }

  /// Makes an array whose memory is reserved and not yet touched: what is in it is unspecified
  /// until it is set.
  package init(reserving count: Int) {
    unsafe base = Self.allocate(count)
    self.count = count
  }

  /// Makes an array of zeros; a large one takes memory only where it is used.
  package init(zeros count: Int) where Element: FixedWidthInteger { self.init(reserving: count) }

  /// The same elements in memory of their own.
  package func copy() -> FixedArray {
    let copy = FixedArray(reserving: count)
    unsafe copy.base.update(from: base, count: count)
    return copy
  }

  /// Bytes from which on memory is asked for in huge pages: such tables are larger than what a
  /// core's TLB knows in pages of 4 KiB, and each look-up would miss it.
  private static var hugeSize: Int { 4 << 20 }

  /// Large pieces of zeros are pages that the kernel provides when they are first touched.
  private static func allocate(_ count: Int) -> UnsafeMutablePointer<Element> {
    guard let memory = unsafe calloc(max(count, 1), MemoryLayout<Element>.stride) else {
      fatalError("There is no memory for \(count) elements of \(Element.self).")
    }
    let size = max(count, 1) * MemoryLayout<Element>.stride
    if size >= hugeSize {
      // Advice for the whole pages of 4 KiB in it; where the kernel does not follow it, all works
      // as well.
      let pages = unsafe memory.alignedUp(toMultipleOf: 4096)
      _ = unsafe madvise(pages, size - (pages - memory) & ~4095, MADV_HUGEPAGE)
    }
    return unsafe memory.bindMemory(to: Element.self, capacity: max(count, 1))
  }

  package subscript(index: Int) -> Element {
    @inline(__always) get {
      precondition(UInt(bitPattern: index) < UInt(bitPattern: count))
      return unsafe base[index]
    }
    @inline(__always) _modify {
      precondition(UInt(bitPattern: index) < UInt(bitPattern: count))
      yield unsafe &base[index]
    }
  }

  /// The place of an element, valid as long as the array.
  @unsafe package func address(of index: Int) -> UnsafeMutablePointer<Element> {
    precondition(UInt(bitPattern: index) < UInt(bitPattern: count))
    return unsafe base + index
  }

  deinit { unsafe free(base) }
}

// It is owned by one place, and so by one thread at a time.
extension FixedArray: @unchecked Sendable where Element: Sendable {}
