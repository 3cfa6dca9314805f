"""Sends VXLAN datagrams with a header of one's own choice.

send_vxlan.py SOURCE DESTINATION COUNT HEADER FRAME [CLASS]

Header (8 bytes) and frame are hexadecimal, and either may be short; CLASS is DSCP and ECN of the outer header.
"""

import socket
import sys

source, destination, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ":" in source else socket.AF_INET
out = socket.socket(family, socket.SOCK_DGRAM)
out.bind((source, 0))
if len(sys.argv) > 6:
    level, option = (socket.IPPROTO_IPV6, socket.IPV6_TCLASS) if ":" in source else (socket.IPPROTO_IP, socket.IP_TOS)
    out.setsockopt(level, option, int(sys.argv[6]))
for _ in range(count):
    out.sendto(bytes.fromhex(sys.argv[4]) + bytes.fromhex(sys.argv[5]), (destination, 4789))
