package import OVXDatapath

// ARP and neighbor discovery, built byte by byte.

/// The frame by which one station answers another that asks for its address.
package func neighborAnswer(
  from address: MACAddress, _ ip: IPAddress, isRouter: Bool = false, to asker: MACAddress,
  _ askerIP: IPAddress
) -> [UInt8] {
  guard ip.isIPv6 else {
    return arpOctets(
      operation: 2, from: address, ip, to: asker, askerIP, destination: asker)
  }
  var message: [UInt8] = [136, 0, 0, 0, isRouter ? 0xE0 : 0x60, 0, 0, 0]
  message.append(number: ip.high)
  message.append(number: ip.low)
  message += [2, 1]
  message.append(address: address)
  return ndOctets(
    from: address, ip, to: asker, askerIP, message: message)
}

/// The frame by which a station asks all others for an address; where it has none itself, whether
/// it can have that one.
package func neighborQuestion(
  for target: IPAddress, from address: MACAddress, _ ip: IPAddress
) -> [UInt8] {
  guard target.isIPv6 else {
    return arpOctets(operation: 1, from: address, ip, to: MACAddress(truncating: 0), target)
  }
  let group = 0x0000_0001_FF00_0000 | target.low & 0xFF_FFFF
  var message: [UInt8] = [135, 0, 0, 0, 0, 0, 0, 0]
  message.append(number: target.high)
  message.append(number: target.low)
  if ip != IPAddress(v6High: 0, low: 0) {
    message += [1, 1]
    message.append(address: address)
  }
  return ndOctets(
    from: address, ip, to: MACAddress(truncating: 0x3333_0000_0000 | group & 0xFFFF_FFFF),
    IPAddress(v6High: 0xFF02_0000_0000_0000, low: group), message: message)
}

/// The frame by which a station tells all others its address: a gratuitous ARP, or an unsolicited
/// advertisement.
package func neighborAnnouncement(
  of ip: IPAddress, at address: MACAddress, isRouter: Bool = false
) -> [UInt8] {
  guard ip.isIPv6 else {
    return arpOctets(operation: 1, from: address, ip, to: MACAddress(truncating: 0), ip)
  }
  var message: [UInt8] = [136, 0, 0, 0, isRouter ? 0xA0 : 0x20, 0, 0, 0]
  message.append(number: ip.high)
  message.append(number: ip.low)
  message += [2, 1]
  message.append(address: address)
  return ndOctets(
    from: address, ip, to: MACAddress(truncating: 0x3333_0000_0001),
    IPAddress(v6High: 0xFF02_0000_0000_0000, low: 1), message: message)
}

/// A frame of neighbor discovery, with its checksum filled in; `extensions` are the kinds of
/// extension headers, of eight bytes each, in front of the message.
package func ndOctets(
  from source: MACAddress, _ sourceIP: IPAddress, to target: MACAddress, _ targetIP: IPAddress,
  message: [UInt8], hopLimit: UInt8 = 255, extensions: [UInt8] = []
) -> [UInt8] {
  var frame: [UInt8] = []
  frame.append(address: target)
  frame.append(address: source)
  frame += [0x86, 0xDD, 0x60, 0, 0, 0]
  frame.append(number: UInt16(extensions.count * 8 + message.count))
  frame += [extensions.first ?? 58, hopLimit]
  for ip in [sourceIP, targetIP] {
    frame.append(number: ip.high)
    frame.append(number: ip.low)
  }
  var message = message
  var pseudo = Array(frame[22..<54])
  pseudo.append(number: UInt32(message.count))
  pseudo += [0, 0, 0, 58]
  message.setNumber(UInt16(0), at: 2)
  let sum = onesComplementSum(message[...], startingFrom: UInt64(onesComplementSum(pseudo[...])))
  message.setNumber(~sum, at: 2)
  for number in extensions.indices {
    // Padding (RFC 8200, section 4.2), which for a routing header reads as one with no stop left.
    frame += [number + 1 < extensions.count ? extensions[number + 1] : 58, 0, 1, 0, 0, 0, 0, 0]
  }
  return frame + message
}

/// An ARP frame (RFC 826), not padded.
package func arpOctets(
  operation: UInt16, from sender: MACAddress, _ senderIP: IPAddress, to target: MACAddress,
  _ targetIP: IPAddress, source: MACAddress? = nil, destination: MACAddress = .broadcast
) -> [UInt8] {
  var frame: [UInt8] = []
  frame.append(address: destination)
  frame.append(address: source ?? sender)
  frame += [8, 6, 0, 1, 8, 0, 6, 4]
  frame.append(number: operation)
  frame.append(address: sender)
  frame.append(number: UInt32(truncatingIfNeeded: senderIP.low))
  frame.append(address: target)
  frame.append(number: UInt32(truncatingIfNeeded: targetIP.low))
  return frame
}
