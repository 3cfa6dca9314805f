private import OVXDatapath

/// What is attached without a word about VLANs carries them all, which on a bridge of several
/// tenants is every tenant's traffic; a container is one tenant's.
///
/// `add-port` accepts it, as Open vSwitch does, whose scripts set the tag in a later command.
extension Transaction {
  /// Notes that `attach` has made a port, unless one of its settings says which VLANs it carries.
  mutating func noteVLANs(of port: String, _ settings: [Setting]) {
    let isSaid = settings.contains { setting in
      switch Schema.match(setting.column, in: Self.settingNames) {
      case .one("tag"), .one("trunks"): true
      default: false
      }
    }
    if !isSaid { unsaid.insert(port) }
  }

  /// Looks at the ports of which nothing was said, as the last command leaves them.
  ///
  /// - Throws: That one would be a trunk of all tenants, and what to type.
  func checkUnsaidVLANs() throws(ControlError) {
    for name in unsaid.sorted() {
      guard let port = configuration.ports[name], port.isTrunkOfAll,
        let attachment = port.interface.attachment,
        let other = configuration.ports(of: port.bridge).first(where: \.isOfSomeVLANs)
      else { continue }
      throw ControlError(
        "bridge \(printable(port.bridge)) keeps VLANs apart (port \(printable(other.name))), and "
          + "\(printable(attachment.interface)) of \(printable(attachment.target)) would carry all of them; "
          + "name its own with tag=VLAN, or those of a trunk with trunks=VLAN,... (trunks=[] for all)",
        record: name)
    }
  }
}

extension Configuration.Port {
  /// Whether frames of every VLAN come and go by it.
  fileprivate var isTrunkOfAll: Bool {
    switch vlans {
    case .trunk(let trunks), .nativeTagged(_, let trunks), .nativeUntagged(_, let trunks):
      trunks == nil
    default: false
    }
  }

  /// Whether it is of one VLAN, or of some: then its bridge has tenants.
  fileprivate var isOfSomeVLANs: Bool { vlans != .trunk(nil) && vlans != .access(.untagged) }
}
