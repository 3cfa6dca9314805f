"""Sends VXLAN datagrams with a checksum of one's own choice, as frames of the underlay.

spoilt_vxlan.py INTERFACE DESTINATION-MAC SOURCE DESTINATION COUNT HEADER FRAME KIND

KIND is zero, right, wrong (the UDP checksum), or header (the one of IPv4's header is wrong).
"""

import socket
import struct
import sys

interface, mac, source, destination, count, header, frame, kind = sys.argv[1:9]
payload = bytes.fromhex(header) + bytes.fromhex(frame)
is_ipv6 = ":" in source
family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
ends = socket.inet_pton(family, source) + socket.inet_pton(family, destination)


def checksum(data):
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


length = 8 + len(payload)
udp = struct.pack("!HHHH", 50000, 4789, length, 0)
value = checksum(ends + struct.pack("!HH", 17, length) + udp + payload) or 0xFFFF
value = {"zero": 0, "wrong": value ^ 0x0101 or 0x0101}.get(kind, value)
udp = udp[:6] + struct.pack("!H", value)
if is_ipv6:
    packet = struct.pack("!IHBB", 6 << 28, length, 17, 64) + ends
else:
    packet = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 1, 0x4000, 64, 17, 0) + ends
    value = checksum(packet) ^ (0x0101 if kind == "header" else 0)
    packet = packet[:10] + struct.pack("!H", value) + packet[12:]
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind((interface, 0))
with open(f"/sys/class/net/{interface}/address") as file:
    own = bytes.fromhex(file.read().strip().replace(":", ""))
ethernet = bytes.fromhex(mac.replace(":", "")) + own + (b"\x86\xdd" if is_ipv6 else b"\x08\x00")
for _ in range(int(count)):
    out.send(ethernet + packet + udp + payload)
