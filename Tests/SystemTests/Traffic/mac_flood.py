"""Sends COUNT broadcast frames, each from an address of its own: mac_flood.py INTERFACE COUNT."""

import socket
import sys

out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind((sys.argv[1], 0))
for number in range(int(sys.argv[2])):
    source = bytes([2, 0xF1]) + number.to_bytes(4, "big")
    out.send(b"\xff" * 6 + source + bytes.fromhex("88b5") + bytes(46))
