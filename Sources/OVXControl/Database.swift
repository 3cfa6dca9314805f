package import SystemPackage

/// The desired state on disk: one SQLite file, the only thing that must survive.
package struct Database {
  /// What was put aside because it could not be read; the daemon logs it.
  package let note: String?

  /// Opens the database, and makes it and its directory where they are missing.
  ///
  /// A file that is damaged is kept aside as `FILE.corrupt-N`, named in `note`, and an empty one takes its place.
  ///
  /// - Throws: What is wrong with the file or its directory and what to do, in words.
  package init(path: FilePath) throws(ControlError) {
    throw ControlError("not yet")
  }

  /// Reads the whole state.
  package func load() throws(ControlError) -> Configuration {
    throw ControlError("not yet")
  }

  /// Makes the stored state equal to the given one, in one transaction that is on disk when this returns.
  package func save(_ configuration: Configuration) throws(ControlError) {
    throw ControlError("not yet")
  }
}
