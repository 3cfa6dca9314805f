/// The versions of the CNI specification that are spoken, oldest first.
enum SpecificationVersion: String, CaseIterable, Comparable {
  case v030 = "0.3.0"
  case v031 = "0.3.1"
  case v040 = "0.4.0"
  case v100 = "1.0.0"
  case v110 = "1.1.0"

  static let latest = SpecificationVersion.v110

  static func < (left: Self, right: Self) -> Bool {
    allCases.firstIndex(of: left) ?? 0 < allCases.firstIndex(of: right) ?? 0
  }

  /// Reads a version; `nil` for one that is not spoken.
  ///
  /// 1.0 and 1.1 without a third number, as people write them, are taken, too.
  ///
  /// - Parameter text: What stands as `cniVersion`.
  init?(text: String) {
    self.init(rawValue: text.split(separator: ".").count == 2 ? text + ".0" : text)
  }
}
