import OVXControl
import Testing

@testable import ovx_vswitchd

/// Who may do what, by uid and groups.
@Suite struct ControlRightsTests {
  static let changers = Group(name: "ovx", number: 61)
  static let readers = Group(name: "ovx-ro", number: 62)

  private func right(
    uid: UInt32, _ groups: Set<UInt32>, owner: UInt32 = 0, _ changers: Group? = Self.changers,
    _ readers: Group? = Self.readers
  ) -> Right? {
    ControlRights(owner: owner, changers: changers, readers: readers)
      .right(of: Peer(pid: 1, uid: uid, groups: groups))
  }

  @Test func theRule() {
    #expect(right(uid: 0, []) == .change)
    #expect(right(uid: 1000, [1000, 61]) == .change)
    #expect(right(uid: 1000, [1000, 62]) == .look)
    #expect(right(uid: 1000, [61, 62]) == .change)
    #expect(right(uid: 1000, [1000]) == nil)
    // The daemon's own user is root to it.
    #expect(right(uid: 700, [700], owner: 700) == .change)
    #expect(right(uid: 0, [0], owner: 700) == .change)
    #expect(right(uid: 701, [700], owner: 700) == nil)
  }

  /// A number that stands for a user the daemon's user namespace does not have, and the group root,
  /// are nobody.
  @Test func nobodies() {
    #expect(right(uid: 65534, [65534]) == nil)
    #expect(right(uid: .max, [.max]) == nil)
    #expect(right(uid: 1000, [0]) == nil)
  }

  @Test func withoutGroups() {
    #expect(right(uid: 0, [], nil, nil) == .change)
    #expect(right(uid: 1000, [0, 61, 62], nil, nil) == nil)
    #expect(right(uid: 1000, [61], nil, Self.readers) == nil)
    #expect(right(uid: 1000, [62], Self.changers, nil) == nil)
  }

  /// One group for both: it may change.
  @Test func oneGroupForBoth() {
    let group = Group(name: "both", number: 63)
    #expect(right(uid: 1000, [63], group, group) == .change)
  }

  @Test func groupsAreNamedOrNumbered() throws {
    #expect(try Group(named: "0", by: "--socket-group").number == 0)
    #expect(try Group(named: "root", by: "--socket-group").number == 0)
    for name in ["", "no such group", "-1", "\(UInt32.max)"] {
      let error = #expect(throws: StartFailure.self) {
        try Group(named: name, by: "--reader-group")
      }
      #expect(error?.description.contains("--reader-group") == true, "\(name)")
    }
  }

  @Test func sentences() {
    let both = ControlRights(owner: 0, changers: Self.changers, readers: Self.readers)
    #expect(
      both.refusal(of: "/run/ovx/vswitchd.sock").message
        == "no permission to use /run/ovx/vswitchd.sock; run it as root or as a member of the group ovx; members of the "
        + "group ovx-ro may look")
    #expect(
      both.refusalOfChange.message.hasSuffix("run it as root or as a member of the group ovx"))
    let none = ControlRights(owner: 0, changers: nil, readers: nil)
    #expect(none.refusal(of: "/s").message == "no permission to use /s; run it as root")
    #expect(none.refusal(of: "/s").kind.rawValue == 1)
  }
}
