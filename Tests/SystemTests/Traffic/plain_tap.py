"""A virtual machine's network card without offloads: a TAP here, and one in a namespace, joined frame by frame.

plain_tap.py NAME NAMESPACE INTERFACE       until it is ended

The TAPs are opened as QEMU opens them for a guest that negotiates nothing. A line "ready" on standard error says that
both are there.
"""

import ctypes
import fcntl
import os
import select
import struct
import sys

TUNSETIFF, TUNSETOFFLOAD, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x400454D0, 2, 0x1000


def open_tap(name):
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    fcntl.ioctl(tap, TUNSETOFFLOAD, 0)
    return tap


outside = open_tap(sys.argv[1])
if ctypes.CDLL(None, use_errno=True).setns(os.open("/run/netns/" + sys.argv[2], os.O_RDONLY), 0):
    sys.exit("no such namespace")
inside = open_tap(sys.argv[3])
print("ready", file=sys.stderr, flush=True)
while True:
    for source in select.select([outside, inside], [], [])[0]:
        target = inside if source == outside else outside
        try:
            for _ in range(64):
                os.write(target, os.read(source, 65536))
        except OSError:
            pass
