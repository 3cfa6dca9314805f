"""Stands between a daemon and the one that takes its place, and kills one of them at a message.

    handover_proxy.py RUNDIR VICTIM KIND      VICTIM is old or new; KIND is the message's first byte

Messages and descriptors are passed on as they are until the first of that kind; that one is not. Prints "ready" when it
listens, and "killed" when it has killed. Goes on passing messages where none of that kind comes.
"""

import array
import os
import select
import signal
import socket
import struct
import sys

rundir, victim, kind = sys.argv[1], sys.argv[2], int(sys.argv[3])
path, real = rundir + "/handover.sock", rundir + "/handover.real"
os.rename(path, real)
door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
door.bind(path)
door.listen(1)
print("ready", flush=True)
new, _ = door.accept()
old = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
old.connect(real)
# The next daemon finds the old one by itself.
os.rename(real, path)


def process(end):
    credentials = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return struct.unpack("iII", credentials)[0]


processes = {"old": process(old), "new": process(new)}
while True:
    for source in select.select([old, new], [], [])[0]:
        target = new if source is old else old
        try:
            data, descriptors, _, _ = socket.recv_fds(source, 65536, 64)
        except ConnectionResetError:
            data, descriptors = b"", []
        if not data:
            sys.exit(0)
        if data[0] == kind:
            os.kill(processes[victim], signal.SIGKILL)
            for number in descriptors:
                os.close(number)
            print("killed", flush=True)
            sys.exit(0)
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            target.sendmsg([data], control)
        except BrokenPipeError:
            sys.exit(0)
        for number in descriptors:
            os.close(number)
