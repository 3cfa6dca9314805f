#!/usr/bin/env python3
"""Starts a broker as a service manager does, and asks it with more and more descriptors.

    descriptors.py BROKER

The last descriptor of a request is where it answers. Printed is, for each number of them, whether it has answered.
"""

import array
import os
import socket
import sys

ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
pid = os.fork()
if pid == 0:
    os.dup2(theirs.fileno(), 3)
    os.set_inheritable(3, True)
    os.closerange(4, 1000)
    environment = {"PATH": "/usr/bin:/bin", "LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
    os.execve(sys.argv[1], ["ovx-broker"], environment)
theirs.close()
for count in [1, 2, 3, 4, 5, 1]:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    others = [os.open("/dev/null", os.O_RDWR) for _ in range(count - 1)]
    rights = array.array("i", others + [there.fileno()])
    ours.sendmsg([b"processes\0" + b"0\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    for descriptor in others:
        os.close(descriptor)
    there.close()
    here.settimeout(5)
    print(count, "answered" if here.recv(100000) else "refused")
ours.close()
os.waitpid(pid, 0)
