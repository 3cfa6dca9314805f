/// The number of something, given out densely from 0, so that a table can have a line for each.
package protocol DenseID: BitwiseCopyable {
  associatedtype RawValue: FixedWidthInteger
  var rawValue: RawValue { get }
  init(rawValue: RawValue)
}

extension PortID: DenseID {}
extension BridgeID: DenseID {}
extension RemoteVTEPID: DenseID {}

/// A `FixedArray` with a line for each object of one kind, which nothing but that object's number
/// finds.
///
/// A number that is out of range stops the program: what comes from elsewhere is asked for with
/// `contains` first.
struct IDTable<ID: DenseID, Line: BitwiseCopyable>: ~Copyable {
  private var lines: FixedArray<Line>

  /// Makes a table of equal lines.
  init(repeating line: Line, count: Int) { lines = FixedArray(repeating: line, count: count) }

  /// Makes a table of zeros; a large one takes memory only where it is used.
  init(zeros count: Int) where Line: FixedWidthInteger { lines = FixedArray(zeros: count) }

  private init(_ lines: consuming FixedArray<Line>) { self.lines = lines }

  func copy() -> IDTable { IDTable(lines.copy()) }

  /// The numbers that the table has lines for.
  var ids: some Sequence<ID> {
    (0..<lines.count).lazy.map { ID(rawValue: ID.RawValue(truncatingIfNeeded: $0)) }
  }

  @inline(__always) func contains(_ id: ID) -> Bool { Int(id.rawValue) < lines.count }

  subscript(id: ID) -> Line {
    @inline(__always) get { lines[Int(id.rawValue)] }
    @inline(__always) _modify { yield &lines[Int(id.rawValue)] }
  }

  /// The address of a line, valid as long as the table.
  @unsafe func address(of id: ID) -> UnsafeMutablePointer<Line> {
    unsafe lines.address(of: Int(id.rawValue))
  }
}

extension IDTable: Sendable where Line: Sendable {}
