"""Prints a line for each UDP datagram and each TCP connection that arrives on port 7777, IPv4 and IPv6: until SIGTERM.

A line "ready" on standard error says that it listens.
"""

import select
import socket
import sys

sockets = []
for kind in socket.SOCK_DGRAM, socket.SOCK_STREAM:
    listener = socket.socket(socket.AF_INET6, kind)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    # What was heard a moment ago still has the port.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("::", 7777))
    if kind == socket.SOCK_STREAM:
        listener.listen()
    sockets.append(listener)
print("ready", file=sys.stderr, flush=True)
while True:
    for ready in select.select(sockets, [], [])[0]:
        if ready.type == socket.SOCK_DGRAM:
            print("udp", ready.recv(2000).decode(), flush=True)
        else:
            connection, _ = ready.accept()
            print("tcp", connection.getsockname()[0].removeprefix("::ffff:"), flush=True)
            connection.close()
