"""Sends what a hostile neighbor does, as fast as it can, until it is killed.

storm.py INTERFACE macs|broadcast|multicast|unknown|arp     frames by a packet socket, on a container's interface
storm.py ADDRESS vxlan VNI                                  broadcasts in VXLAN, to a VTEP's address
"""

import random
import socket
import sys

place, kind = sys.argv[1], sys.argv[2]
chance = random.Random(1)


def address():
    return bytes([2]) + chance.randbytes(5)


own = address()


def frame():
    if kind == "macs":
        return address() + address() + bytes.fromhex("88b5") + bytes(46)
    if kind == "arp":
        return (b"\xff" * 6 + own + bytes.fromhex("08060001080006040001") + own + bytes([10, 0, 0, 1]) + bytes(6)
                + bytes([10, 0]) + chance.randbytes(2) + bytes(18))
    target = {"multicast": bytes.fromhex("3333") + chance.randbytes(4), "unknown": address()}.get(kind, b"\xff" * 6)
    return target + own + bytes.fromhex("88b5") + bytes(46)


head = b""
if kind == "vxlan":
    family = socket.AF_INET6 if ":" in place else socket.AF_INET
    out = socket.socket(family, socket.SOCK_DGRAM)
    out.connect((place, 4789))
    head = bytes([8, 0, 0, 0]) + int(sys.argv[3]).to_bytes(3, "big") + bytes(1)
else:
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    out.bind((place, 0))
# Made beforehand: what is sent is to be more than a switch takes.
frames = [head + frame() for _ in range(20_000)]
print("ready", flush=True)
while True:
    for bytes_ in frames:
        try:
            out.send(bytes_)
        except OSError:
            pass  # No room, or nobody there.
