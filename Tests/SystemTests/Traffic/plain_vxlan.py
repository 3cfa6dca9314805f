"""Sends broadcast frames in VXLAN by a plain UDP socket, as any program can.

plain_vxlan.py DESTINATION PORT VNI MARK USER      sends three as the user of that number; prints how many the kernel refused
"""

import os
import socket
import sys

destination, port, vni, mark, user = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
os.setgroups([])
os.setresgid(user, user, user)
os.setresuid(user, user, user)
frame = bytes.fromhex("ffffffffffff" "0200000000ee" "88b5") + f"OVXMARK:{mark}:-:".encode().ljust(64, b".")
datagram = bytes([8, 0, 0, 0]) + vni.to_bytes(3, "big") + b"\0" + frame
out = socket.socket(socket.AF_INET6 if ":" in destination else socket.AF_INET, socket.SOCK_DGRAM)
refused = 0
for _ in range(3):
    try:
        out.sendto(datagram, (destination, port))
    except PermissionError:
        refused += 1
print(refused)
