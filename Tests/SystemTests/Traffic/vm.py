"""A virtual machine as the host sees it: a TAP that another process has open.

vm.py TAP CONTAINER     until SIGTERM

The TAP is made in the network namespace that this is started in, and what passes it goes to and comes from eth0 of the
network namespace CONTAINER. A line "ready" on standard error says that both are there.
"""

import ctypes
import fcntl
import os
import select
import struct
import sys


def tap(name):
    number = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(number, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1002))  # TUNSETIFF: IFF_TAP | IFF_NO_PI
    return number


near = tap(sys.argv[1])
with open(f"/run/netns/{sys.argv[2]}") as namespace:
    # os.setns is of Python 3.12.
    assert ctypes.CDLL(None).setns(namespace.fileno(), 0x40000000) == 0  # CLONE_NEWNET
far = tap("eth0")
print("ready", file=sys.stderr, flush=True)
while True:
    for number in select.select([near, far], [], [])[0]:
        try:
            os.write(far if number == near else near, os.read(number, 65536))
        except OSError:
            pass  # One of the two is down.
