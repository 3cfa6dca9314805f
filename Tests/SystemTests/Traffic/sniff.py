"""Listens for marked frames and prints who was heard: one line "ORIGIN TAG COUNT" each.

sniff.py INTERFACE      until SIGTERM; prints nothing before

A line "ready" on standard error says that it listens.
"""

import collections
import signal
import socket
import sys

heard = collections.Counter()
tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
tap.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
tap.setsockopt(263, 23, 1)  # SOL_PACKET, PACKET_IGNORE_OUTGOING
tap.bind((sys.argv[1], 0))


def finish(*_):
    tap.settimeout(0)
    try:
        while True:
            take(tap.recv(65536))
    except OSError:
        pass
    for (origin, tag), count in sorted(heard.items()):
        print(origin, tag, count)
    # SOL_PACKET, PACKET_STATISTICS: a test that missed frames proves nothing.
    lost = int.from_bytes(tap.getsockopt(263, 6, 8)[4:], sys.byteorder)
    sys.stdout.flush()
    sys.exit(3 if lost else 0)


def take(frame):
    at = frame.find(b"OVXMARK:")
    if at >= 0:
        _, origin, tag, _ = frame[at : at + 64].split(b":", 3)
        heard[(origin.decode(), tag.decode())] += 1


signal.signal(signal.SIGTERM, finish)
print("ready", file=sys.stderr, flush=True)
while True:
    take(tap.recv(65536))
