/// Every way a frame can die, each counted per port.
///
/// Up to the decision a frame is charged to the port it came in by, from then on to the port it was
/// to leave by.
package enum DropReason: UInt8, BitwiseCopyable, CaseIterable, Sendable {
  // Receiving
  case receiveQueueFull
  case truncated
  case tooLong
  case malformedOffload
  case unsupportedOffload
  case tooManySegments
  // Decapsulation
  case vxlanTooShort
  case vniFlagMissing
  case unknownVTEP
  case wrongDevice
  case unknownVNI
  case ambiguousTrain
  case mixedVNIs
  case lengthBeyondFrame
  case superframeOfUnknownSize
  case congestionExperienced
  // Admission
  case waitingPort
  case invalidSource
  case reservedDestination
  case taggedOnAccessPort
  case vlanNotOnPort
  case nestedTag
  // Port security
  case macNotAllowed
  case ipNotAllowed
  case arpNotAllowed
  case neighborNotAllowed
  case gatewayAddress
  case dhcpServer
  case routerAdvertisement
  case hiddenHeaders
  // Decision
  case samePort
  case splitHorizon
  case loop
  case joinFloodLimit
  case stormLimit
  case ownAddress
  case nowhereToFlood
  // Delivery
  case exceedsDeviceMTU
  case exceedsTunnelMTU
  case deviceRefused
  case deviceDown
  case deviceFull
  case underlayUnreachable
  case remoteNotListening
  case underlayRefused
  case underlayFull

  /// A short name in kebab case, stable: scripts and metrics know it.
  package var symbol: String {
    var text = ""
    switch self {
    case .vniFlagMissing: return "vni-flag-missing"
    case .unknownVTEP: return "unknown-vtep"
    case .unknownVNI: return "unknown-vni"
    case .mixedVNIs: return "mixed-vnis"
    case .exceedsDeviceMTU: return "exceeds-device-mtu"
    case .exceedsTunnelMTU: return "exceeds-tunnel-mtu"
    default:
      for character in String(describing: self) {
        if character.isUppercase { text += "-" }
        text += character.lowercased()
      }
      return text
    }
  }

  /// What happened, for a person.
  package var sentence: String {
    switch self {
    case .receiveQueueFull:
      "Frames came faster than the switch takes them, and the kernel's queue for it was full."
    case .truncated: "The frame is shorter than its own headers say."
    case .tooLong: "The frame is longer than any buffer of the switch."
    case .malformedOffload: "The offload request that came with the frame contradicts its bytes."
    case .unsupportedOffload:
      "The frame asks for a kind of segmentation that the switch does not do."
    case .tooManySegments:
      "The superframe asks to be cut into more segments than the switch makes of one."
    case .vxlanTooShort: "The datagram is too short to hold a VXLAN header and a frame."
    case .vniFlagMissing: "The VXLAN header says that it carries no VNI (flag I is not set)."
    case .unknownVTEP: "The sending VTEP is no remote of any tunnel here."
    case .wrongDevice:
      "The datagram came in by a device by which no route leads to the sending VTEP: it is forged, or routes differ by direction."
    case .unknownVNI: "No tunnel here has this VNI with the sending VTEP as a remote."
    case .ambiguousTrain:
      "What the kernel handed over in one piece is neither datagrams with a VXLAN header each nor one superframe, or could be either."
    case .mixedVNIs:
      "The kernel joined the datagram to one of another VNI, or somebody in that VNI has forged it."
    case .lengthBeyondFrame:
      "The lengths in the frame's headers reach beyond its end, into the datagrams that it came with."
    case .superframeOfUnknownSize:
      "A TCP packet larger than the port's MTU arrived whole, and nothing says where to cut it."
    case .congestionExperienced:
      "The underlay marked the datagram as having met congestion, and the packet inside does not know ECN."
    case .waitingPort: "The port is configured, but its device is not there."
    case .invalidSource: "The source address is a group address or zero."
    case .reservedDestination:
      "The destination is one of 01:80:C2:00:00:00 to 0F, which bridges do not forward."
    case .taggedOnAccessPort: "A frame with a VLAN tag came in by an access port."
    case .vlanNotOnPort: "The port is not a member of the frame's VLAN."
    case .nestedTag:
      "A tag inside the frame may not be seen on the port, or would be taken for the frame's VLAN."
    case .macNotAllowed:
      "The source is not the Ethernet address that the port was given, nor one of its allowed_addresses."
    case .ipNotAllowed:
      "The source is no IP address that the port was given, nor one of its allowed_addresses."
    case .arpNotAllowed:
      "ARP in the name of an address that the port was not given, and that is none of its allowed_addresses."
    case .neighborNotAllowed:
      "Neighbor discovery in the name of an address that the port was not given and that is none of its allowed_addresses, or that no receiver would take."
    case .gatewayAddress:
      "The frame claims to come from the network's gateway, which is behind another port."
    case .dhcpServer: "A DHCP server's answer; with port_security, containers have none to give."
    case .routerAdvertisement:
      "A router advertisement or a redirect; with port_security, containers are no routers."
    case .hiddenHeaders:
      "The frame's headers are broken, or do not show what it carries, so that port_security cannot look at it."
    case .samePort: "The destination was learned on the port that the frame came from."
    case .splitHorizon:
      "The frame came from a tunnel, and its destination is behind another one whose VNI is not joined; or it is between a tunnel and a gateway that every host has for itself."
    case .loop:
      "The frame came by a joined VNI from elsewhere than its source was seen a moment ago: another host joins it, too."
    case .joinFloodLimit:
      "More frames were to be flooded from one joined VNI into another than 1,000 in a second."
    case .stormLimit:
      "More copies of flooded frames were to be made for the port in a second than its storm-control allows."
    case .ownAddress:
      "The destination is the address of a port's own device, behind which nobody is."
    case .nowhereToFlood:
      "Nobody has heard of the destination, and the frame's segment has no other port that it could be behind."
    case .exceedsDeviceMTU:
      "The frame is larger than the MTU of the port's device; where it is IP, its sender is told by ICMP."
    case .exceedsTunnelMTU:
      "The frame with its VXLAN headers is larger than the path takes; where it is IP, its sender is told by ICMP."
    case .deviceRefused: "The kernel refused to take the frame on the port's device."
    case .deviceDown: "The port's device is down, or the other end of its veth is."
    case .deviceFull: "The port's device has no room for more frames at the moment."
    case .underlayUnreachable: "The kernel has no route to the remote VTEP, or it is unreachable."
    case .remoteNotListening:
      "The remote host answers that no VTEP listens there: its switch does not run, or uses another UDP port, or a firewall there rejects it."
    case .underlayRefused:
      "The kernel refused to send the datagram, as it does where a firewall of this host (output) drops it."
    case .underlayFull: "The underlay's transmit queue has no room at the moment."
    }
  }
}
