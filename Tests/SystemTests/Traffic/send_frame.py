"""Sends one Ethernet frame, given in hexadecimal, COUNT times: send_frame.py INTERFACE COUNT HEX..."""

import socket
import sys

out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind((sys.argv[1], 0))
for frame in sys.argv[3:]:
    for _ in range(int(sys.argv[2])):
        out.send(bytes.fromhex(frame))
