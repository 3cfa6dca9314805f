"""Sends each address a UDP datagram that holds the address, and tries a TCP connection, to port 7777: knock.py ADDRESS..."""

import select
import socket
import sys
import time

waiting = []
for address in sys.argv[1:]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    socket.socket(family, socket.SOCK_DGRAM).sendto(address.encode(), (address, 7777))
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.setblocking(False)
    connection.connect_ex((address, 7777))
    waiting.append(connection)
end = time.monotonic() + 0.7
while waiting and (left := end - time.monotonic()) > 0:
    for connection in select.select([], waiting, [], left)[1]:
        waiting.remove(connection)
