"""Sends VXLAN datagrams with a header of one's own choice.

send_vxlan.py SOURCE DESTINATION COUNT HEADER FRAME     header (8 bytes) and frame in hexadecimal, either may be short
"""

import socket
import sys

source, destination, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ":" in source else socket.AF_INET
out = socket.socket(family, socket.SOCK_DGRAM)
out.bind((source, 0))
for _ in range(count):
    out.sendto(bytes.fromhex(sys.argv[4]) + bytes.fromhex(sys.argv[5]), (destination, 4789))
