"""Sends or receives bytes over TCP and prints their number and SHA-256.

transfer.py receive ADDRESS PORT
transfer.py send ADDRESS PORT BYTES SEED
"""

import hashlib
import random
import socket
import sys
import time

role, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
digest = hashlib.sha256()
count = 0

if role == "receive":
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(1)
    connection, _ = listener.accept()
    while data := connection.recv(1 << 18):
        digest.update(data)
        count += len(data)
else:
    total, seed = int(sys.argv[4]), int(sys.argv[5])
    deadline = time.monotonic() + 10
    while True:
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.settimeout(5)
        try:
            connection.connect((address, port))
            break
        except OSError:
            connection.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    connection.settimeout(60)
    # One random megabyte, rotated by a little more each time it is used: cheap, and no two
    # stretches are alike.
    block = random.Random(seed).randbytes(1 << 20)
    turn = 0
    while count < total:
        cut = (turn * 7919) % len(block)
        data = (block[cut:] + block[:cut])[: total - count]
        connection.sendall(data)
        digest.update(data)
        count += len(data)
        turn += 1
    connection.shutdown(socket.SHUT_WR)
    connection.recv(1)

print(count, digest.hexdigest())
