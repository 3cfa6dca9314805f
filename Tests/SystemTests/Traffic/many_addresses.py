"""Sends frames to MAC, each from an address that none had before: many_addresses.py INTERFACE MAC FRAMES_PER_SECOND."""

import socket
import sys
import time

out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind((sys.argv[1], 0))
target = bytes.fromhex(sys.argv[2].replace(":", ""))
rate = int(sys.argv[3])
start = time.monotonic()
number = 0
while True:
    while number < (time.monotonic() - start) * rate:
        source = bytes([2, 0xF2]) + number.to_bytes(4, "big")
        out.send(target + source + bytes.fromhex("88b5") + bytes(46))
        number += 1
    time.sleep(0.002)
