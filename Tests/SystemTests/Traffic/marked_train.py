"""Sends VXLAN datagrams of one flow whose outer headers differ in their ECN marks only, as fast as it can.

marked_train.py SOURCE DESTINATION VNI RUNS LENGTH

RUNS runs of LENGTH datagrams, by turns marked ECT(0) and CE. Inside, each has a packet of protocol 253, ECT(0), whose
identification counts up from 1.
"""

import socket
import struct
import sys

source, destination = sys.argv[1], sys.argv[2]
vni, runs, length = (int(word) for word in sys.argv[3:6])
is_ipv6 = ":" in source
out = socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
out.bind((source, 0))
out.connect((destination, 4789))


def datagram(number):
    words = [0x4502, 120, number, 0x4000, 64 << 8 | 253, 0, 0xAC11, 0x2A0B, 0xAC11, 0x2A0C]
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    words[5] = total ^ 0xFFFF
    frame = bytes.fromhex("0200000000120200000000110800") + struct.pack("!10H", *words) + bytes(100)
    return struct.pack("!BBHI", 8, 0, 0, vni << 8) + frame


datagrams = [datagram(number + 1) for number in range(runs * length)]
for number, data in enumerate(datagrams):
    mark = struct.pack("i", 2 if number // length % 2 == 0 else 3)
    level = (socket.IPPROTO_IPV6, socket.IPV6_TCLASS) if is_ipv6 else (socket.IPPROTO_IP, socket.IP_TOS)
    out.sendmsg([data], [(*level, mark)])
