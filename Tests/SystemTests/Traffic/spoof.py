"""Sends frames in which a container passes for somebody or something else.

spoof.py INTERFACE IPV4 IPV6 KIND...      the interface's own addresses, and which frames

Each carries a mark for sniff.py: origin "evil", the kind for the tag.
"""

import ipaddress
import socket
import struct
import sys

interface, own4, own6 = sys.argv[1:4]
own = bytes.fromhex(open(f"/sys/class/net/{interface}/address").read().replace(":", ""))
own4 = ipaddress.ip_address(own4).packed
own6 = ipaddress.ip_address(own6).packed
other = bytes.fromhex("020000000077")
other4 = ipaddress.ip_address("172.17.42.77").packed
other6 = ipaddress.ip_address("fd42::77").packed
gateway4 = ipaddress.ip_address("172.17.42.1").packed
broadcast, all_nodes = b"\xff" * 6, bytes.fromhex("333300000001")
nobody4, nobody6, everybody = bytes(4), bytes(16), ipaddress.ip_address("ff02::1").packed
link_local = ipaddress.ip_address("fe80::").packed[:8] + bytes([own[0] ^ 2]) + own[1:3] + b"\xff\xfe" + own[3:]


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(kind, payload, source=own, target=broadcast):
    return target + source + kind.to_bytes(2, "big") + payload


def udp(ports, mark):
    return struct.pack(">HHHH", *ports, 8 + len(mark), 0) + mark


def ipv4(source, payload, protocol=17, fragment=0, length=None):
    header = struct.pack(">BBHHHBBH", 0x45, 0, length or 20 + len(payload), 7, fragment, 64, protocol, 0)
    header += source + b"\xff" * 4
    return header[:10] + struct.pack(">H", checksum(header)) + header[12:] + payload


def ipv6(source, payload, following=58):
    return struct.pack(">IHBB", 6 << 28, len(payload), following, 255) + source + everybody + payload


def arp(operation, station, sender, target, mark):
    return struct.pack(">HHBBH", 1, 0x0800, 6, 4, operation) + station + sender + bytes(6) + target + mark


def icmp(kind, source, body, target=everybody):
    message = bytes([kind, 0, 0, 0]) + body
    pseudo = source + target + struct.pack(">II", len(message), 58)
    return message[:2] + struct.pack(">H", checksum(pseudo + message)) + message[4:]


def note(mark):
    """An option of neighbor discovery that nobody knows."""
    mark += b"\0" * (-(len(mark) + 2) % 8)
    return bytes([253, (len(mark) + 2) // 8]) + mark


def advertisement(target, station, mark):
    return ipv6(own6, icmp(136, own6, b"\x20\0\0\0" + target + b"\x02\x01" + station + note(mark)))


def router(mark):
    return icmp(134, link_local, bytes([64, 0, 7, 8]) + bytes(8) + note(mark))


def padding(following, mark):
    """Destination options that mean nothing."""
    mark += b"\0" * (-(len(mark) + 4) % 8)
    return bytes([following, (len(mark) + 4) // 8 - 1, 1, len(mark)]) + mark


def duplicate(target, mark):
    """Whether somebody has an address, asked in nobody's name."""
    group = ipaddress.ip_address("ff02::1:ff00:0").packed[:13] + target[13:]
    message = icmp(135, nobody6, bytes(4) + target + note(mark), group)
    packet = struct.pack(">IHBB", 6 << 28, len(message), 58, 255) + nobody6 + group + message
    return ethernet(0x86DD, packet, target=b"\x33\x33" + group[12:])


def frame(kind):
    mark = f"OVXMARK:evil:{kind}:".encode()
    plain = udp((4000, 4000), mark)
    four = lambda payload, source=own: ethernet(0x0800, payload, source)
    six = lambda payload: ethernet(0x86DD, payload, target=all_nodes)
    match kind:
        case "mac":
            return four(ipv4(own4, plain), other)
        case "ip":
            return four(ipv4(other4, plain))
        case "ip6":
            return six(ipv6(other6, plain, 17))
        case "gateway":
            return four(ipv4(gateway4, plain))
        case "arp":
            return ethernet(0x0806, arp(2, own, other4, other4, mark))
        case "arp-mac":
            return ethernet(0x0806, arp(2, other, own4, own4, mark))
        case "arp-gateway":
            return ethernet(0x0806, arp(2, own, gateway4, gateway4, mark))
        case "arp-snap":
            llc = b"\xaa\xaa\x03\0\0\0\x08\x06" + arp(2, own, other4, other4, mark)
            return ethernet(len(llc), llc)
        case "neighbor":
            return six(advertisement(other6, own, mark))
        case "neighbor-mac":
            return six(advertisement(own6, other, mark))
        case "duplicate":
            return duplicate(other6, mark)
        case "router":
            return six(ipv6(link_local, router(mark)))
        case "router-options":
            return six(ipv6(link_local, b"\x3c\0\x01\x04\0\0\0\0" + padding(58, b"") + router(mark), 0))
        case "router-fragment":
            return six(ipv6(link_local, bytes([60, 0, 0, 1, 0, 0, 0, 9]) + padding(58, mark), 44))
        case "redirect":
            return six(ipv6(link_local, icmp(137, link_local, bytes(4) + other6 + other6 + note(mark))))
        case "router4":
            return four(ipv4(own4, b"\x09\0\0\0\x01\x02\x07\x08" + own4 + bytes(4) + mark, protocol=1))
        case "dhcp":
            return four(ipv4(own4, udp((67, 68), mark)))
        case "dhcp-fragment":
            return four(ipv4(own4, b"\0\x43\0\x44" + mark, fragment=0x2000, length=24))
        case "dhcp6":
            return six(ipv6(own6, udp((547, 546), mark), 17))
        # What is honest, though it comes from no address.
        case "ask-dhcp":
            return four(ipv4(nobody4, udp((68, 67), mark)))
        case "ask-arp":
            return ethernet(0x0806, arp(1, own, nobody4, own4, mark))
        case "ask-duplicate":
            return duplicate(own6, mark)
    sys.exit(f"There is no {kind}.")


out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind((interface, 0))
for kind in sys.argv[4:]:
    out.send(frame(kind))
