"""Announces COUNT made-up IPv4 addresses as its own: arp_flood.py INTERFACE COUNT."""

import socket
import sys

out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind((sys.argv[1], 0))
with open(f"/sys/class/net/{sys.argv[1]}/address") as file:
    source = bytes.fromhex(file.read().strip().replace(":", ""))
for number in range(int(sys.argv[2])):
    address = bytes([10, 99, number >> 8, number & 255])
    head = b"\xff" * 6 + source + bytes.fromhex("08060001080006040001")
    out.send(head + source + address + bytes(6) + address)
