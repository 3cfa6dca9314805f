"""Counts unicast frames that arrive at an interface and are for somebody else: what a switch has flooded.

    strays.py INTERFACE      until SIGTERM; prints how many
"""

import signal
import socket
import sys

tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
tap.setsockopt(263, 23, 1)  # SOL_PACKET, PACKET_IGNORE_OUTGOING
tap.bind((sys.argv[1], 0))
# SOL_PACKET, PACKET_ADD_MEMBERSHIP: a promiscuous interface.
index = socket.if_nametoindex(sys.argv[1])
tap.setsockopt(263, 1, index.to_bytes(4, sys.byteorder) + bytes([1, 0, 0, 0]) + bytes(8))
own = tap.getsockname()[4]
strays = 0


def finish(*_):
    print(strays, flush=True)
    sys.exit(0)


signal.signal(signal.SIGTERM, finish)
print("ready", file=sys.stderr, flush=True)
while True:
    frame = tap.recv(65536)
    if not frame[0] & 1 and frame[:6] != own:
        strays += 1
