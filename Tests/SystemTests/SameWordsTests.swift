import Foundation
import Testing

extension SystemTests {
  /// The same words typed into ovs-vsctl and into ovx-ctl: what one refuses the other refuses, and
  /// both print the same.
  @Suite struct SameWordsTests {
    /// What both accept, or both refuse; in the order in which they are typed.
    static let lines = [
      // An empty value is no value.
      "set port v1 tag=", "set port v1 trunks=", "set port v1 vlan_mode=", "set port v1 cvlans=",
      "set port v1 other_config:a=", "set port v1 other_config=", "set port v1 external_ids:a=",
      "set port v1 'tag= '", "set port v1 trunks=,", "set port v1 trunks=1,,2",
      "set port v1 external_ids=x=", "set interface v1 type=", "set interface v1 options:key=",
      "set interface v1 options=", "set interface v1 mac=", "set interface v1 mtu_request=",
      "set bridge br0 datapath_type=", "set bridge br0 other_config:x=",
      "set bridge br0 stp_enable=",
      "add port v1 trunks ''", "add port v1 trunks []", "add port v1 tag []",
      "add bridge br0 external_ids ''", "add bridge br0 external_ids a=",
      "add bridge br0 external_ids {}", "remove port v1 trunks ''", "remove port v1 trunks []",
      "remove bridge br0 external_ids ''", "remove bridge br0 external_ids a=", "find port tag=",
      "find port external_ids:a=", "wait-until port v1 tag=", "get port v1 external_ids:",
      "add-port br0 v3 tag=", "add-port br0 v3 external_ids:x=", "list-ports br0",
      // The ways to say nothing.
      "set port v1 tag=[]", "get port v1 tag", "set port v1 tag=7 -- get port v1 tag",
      "clear port v1 tag", "get port v1 tag", "set port v1 trunks=1-3,7", "get port v1 trunks",
      "set port v1 trunks=[] -- get port v1 trunks", "set port v1 external_ids:x='\"\"'",
      "get port v1 external_ids:x", "set bridge br0 other_config={}",
      "set interface v1 type='\"\"'",
      // What is not there.
      "get port v1 external_ids:y", "--if-exists get port v1 external_ids:y",
      "--if-exists get port nope tag", "get port nope tag", "--if-exists get port v1 trunks",
      // What is so.
      "set bridge br0 stp_enable=false", "get bridge br0 stp_enable",
      "set bridge br0 rstp_enable=no",
      "get bridge br0 mcast_snooping_enable", "get bridge br0 fail_mode", "list mirror",
      "--all destroy qos", "--if-exists destroy mirror m", "destroy mirror m",
      // What scripts use.
      "br-to-vlan br0", "br-to-vlan nope", "br-to-parent br0", "br-set-external-id br0 k v",
      "br-get-external-id br0 k", "br-set-external-id br0 a 1", "br-get-external-id br0",
      "br-set-external-id br0 k", "br-get-external-id br0", "br-get-external-id br0 zz",
      "comment some words", "--oneline list-ports br0", "--oneline get port v1 tag name",
      "--oneline list-ports br0 -- br-to-vlan br0 -- set port v1 tag=3",
      "--bare --columns=name,tag list port v1", "--bare --columns=name find port tag=3",
      "--bare get port v1 tag", "--no-headings -f csv --columns=name,tag list port v1",
      "-d bare -f csv --columns=name,tag list port v1", "--retry list-ports br0",
      "set open . external_ids:system-id=abc", "get open . external_ids:system-id",
      "get Open_vSwitch . external_ids", "set qos nope type=x",
      "-- --id=@p create port name=p9 interfaces=@i -- --id=@i create interface name=p9 type=internal "
        + "-- add bridge br0 ports @p | wc -l", "list-ports br0",
      "-- --id=@p get port p9 -- remove bridge br0 ports @p", "list-ports br0",
      "list nothing", "get port v1 nothing", "frobnicate",
    ]

    @Test func bothAnswerTheSame() throws {
      try Lab.run { lab in
        // What Open vSwitch says in its own words, also of the end of the lab, is its own business.
        lab.expectLog("|WARN|")
        lab.expectLog("|ERR|")
        let (host1, host2) = try lab.twoHosts()
        try lab.daemon(on: host1)
        let theirs = try OpenVSwitch(on: host2, address: Family.ipv4.address(2))
        for host in [host1, host2] {
          try host.must(
            "ip link add v1 type veth peer name v2; ip link set v1 up; ip link set v2 up")
        }
        try host1.ctl("add-br br0")
        try host1.ctl("add-port br0 v1")
        try theirs.control("--no-wait add-port br0 v1")
        for line in Self.lines {
          let one = try host1.run("ovx-ctl \(line)")
          let other = try theirs.answer(line)
          #expect(
            one.succeeded == other.succeeded && one.standardOutput == other.standardOutput,
            "\(line)\novx-ctl: \(one)\novs-vsctl: \(other)")
        }
      }
    }
  }
}
