"""Sends segments of TCP whose checksum the kernel is to write, and says where: over what a switch has looked at.

misplaced_checksum.py send INTERFACE STATION SOURCE TARGET COUNT FORM...
    COUNT segments of each FORM from SOURCE to TARGET, which is behind the Ethernet address STATION. A container can do that with
    a packet socket (PACKET_VNET_HDR). "right" and "right-gso" are what a kernel sends; "source" and (IPv6) "source-gso" have
    the checksum written over the sender's IP address, "target" over the other. Prints how many the kernel took of each.

misplaced_checksum.py listen INTERFACE
    Prints "ready", and then the form and the sender of each such segment that arrives.
"""

import ipaddress
import socket
import struct
import sys

MARK = b"OVXMARK:"


def send(interface, station, source, target, count, forms):
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    out.setsockopt(263, 15, 1)  # SOL_PACKET, PACKET_VNET_HDR
    out.bind((interface, 0))
    own = out.getsockname()[4]
    source, target = ipaddress.ip_address(source), ipaddress.ip_address(target)
    is_ipv6 = source.version == 6
    for form in forms:
        is_long = form.endswith("-gso")
        payload = (MARK + form.encode() + b":").ljust(3000 if is_long else 100, b"\x55")
        segment = struct.pack("!HHIIBBHHH", 40000, 9, 1, 1, 5 << 4, 0x10, 1000, 0, 0) + payload
        if is_ipv6:
            network = struct.pack("!IHBB", 6 << 28, len(segment), 6, 64) + source.packed + target.packed
        else:
            network = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 7, 0x4000, 64, 6, 0)
            network += source.packed + target.packed
            total = sum(struct.unpack("!10H", network))
            total = (total & 0xFFFF) + (total >> 16)
            network = network[:10] + struct.pack("!H", (total & 0xFFFF) + (total >> 16) ^ 0xFFFF) + network[12:]
        kind = 0x86DD if is_ipv6 else 0x0800
        frame = bytes.fromhex(station.replace(":", "")) + own + struct.pack("!H", kind) + network + segment
        transport = 14 + len(network)
        # Linux wants the first at 20 or further on, and of superframes TCP's own offset for the
        # second: so these reach the last bytes of an IPv6 address only.
        start, offset = {"right": (transport, 16), "right-gso": (transport, 16), "source": (14 + (8 if is_ipv6 else 12), 0),
                         "target": (transport - 4, 0), "source-gso": (20, 16)}[form]
        # VIRTIO_NET_HDR_F_NEEDS_CSUM; VIRTIO_NET_HDR_GSO_TCPV4 or V6.
        gso = (4 if is_ipv6 else 1, 1000) if is_long else (0, 0)
        request = struct.pack("<BBHHHH", 1, gso[0], transport + 20, gso[1], start, offset)
        taken = 0
        for _ in range(count):
            try:
                taken += out.send(request + frame) > 0
            except OSError:
                pass
        print(form, taken)


def listen(interface):
    heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    heard.bind((interface, 0))
    print("ready", flush=True)
    while True:
        frame = heard.recv(65536)
        at = frame.find(MARK)
        if at < 0:
            continue
        is_ipv6 = frame[12:14] == b"\x86\xdd"
        sender = ipaddress.ip_address(frame[22:38] if is_ipv6 else frame[26:30])
        print(frame[at:].split(b":")[1].decode(errors="replace"), sender, flush=True)


if sys.argv[1] == "listen":
    listen(sys.argv[2])
else:
    send(*sys.argv[2:6], int(sys.argv[6]), sys.argv[7:])
