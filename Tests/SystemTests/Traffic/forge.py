"""Forges frames of hosts that this is not.

forge.py INTERFACE MAC vxlan COUNT SOURCE DESTINATION VNI FRAME   datagrams to UDP port 4789, to an Ethernet address
forge.py INTERFACE MAC router PREFIX                              a router advertisement of a /64, to all nodes
forge.py INTERFACE MAC arp COUNT ASKER ADDRESS                    ARP requests; prints who answered within a second
forge.py INTERFACE MAC frame COUNT                                frames of an experimental type

VNI is decimal, FRAME hexadecimal; the source is the interface's own Ethernet address.
"""

import socket
import struct
import sys
import time

interface, target, what, arguments = sys.argv[1], bytes.fromhex(sys.argv[2].replace(":", "")), sys.argv[3], sys.argv[4:]
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
out.bind((interface, 0))
own = out.getsockname()[4]


def total(data):
    data += b"\0" * (len(data) % 2)
    value = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while value >> 16:
        value = (value & 0xFFFF) + (value >> 16)
    return value


def ipv6(source, destination, protocol, payload, offset):
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, destination)
    sum = 0xFFFF ^ total(ends + struct.pack("!IxxxB", len(payload), protocol) + payload)
    payload = payload[:offset] + struct.pack("!H", sum or 0xFFFF) + payload[offset + 2 :]
    return b"\x86\xdd\x60\0\0\0" + struct.pack("!HBB", len(payload), protocol, 255) + ends + payload


if what == "vxlan":
    count, source, destination, vni, frame = arguments
    payload = struct.pack("!II", 0x08000000, int(vni) << 8) + bytes.fromhex(frame)
    udp = struct.pack("!HHHH", 50000, 4789, 8 + len(payload), 0) + payload
    if ":" in source:
        packet = ipv6(source, destination, 17, udp, 6)
    else:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0)
        header += socket.inet_aton(source) + socket.inet_aton(destination)
        packet = b"\x08\0" + header[:10] + struct.pack("!H", 0xFFFF ^ total(header)) + header[12:] + udp
    for _ in range(int(count)):
        out.send(target + own + packet)
elif what == "router":
    prefix = socket.inet_pton(socket.AF_INET6, arguments[0])
    advertisement = b"\x86\0\0\0\x40\0" + struct.pack("!HII", 1800, 0, 0) + b"\1\1" + own
    advertisement += b"\3\4\x40\xc0" + struct.pack("!III", 3600, 3600, 0) + prefix
    out.send(target + own + ipv6("fe80::bad", "ff02::1", 58, advertisement, 2))
elif what == "arp":
    count, asker, address = arguments
    request = b"\x08\x06\0\1\x08\0\6\4\0\1" + own + socket.inet_aton(asker) + b"\0" * 6 + socket.inet_aton(address)
    for _ in range(int(count)):
        out.send(target + own + request)
    end = time.monotonic() + 1
    while (left := end - time.monotonic()) > 0:
        out.settimeout(left)
        try:
            frame = out.recv(2000)
        except TimeoutError:
            break
        if frame[12:14] == b"\x08\x06" and frame[21] == 2 and frame[28:32] == socket.inet_aton(address):
            print(frame[22:28].hex(":"))
else:
    for _ in range(int(arguments[0])):
        out.send(target + own + b"\x88\xb5" + b"OVXMARK:forged:0:" + b"\0" * 40)
