"""Says wrong things to a control socket, one connection each: garbage.py SOCKET SEED

Ends with 0 when the peer has closed or answered every connection that was wrong, and none was left hanging.
"""

import random
import socket
import struct
import sys

path, rng = sys.argv[1], random.Random(int(sys.argv[2]))
valid = b'{"version":1,"commands":[{"show":{}}],"timeout":10,"dryRun":false}'
messages = [
    b"",
    b"\0",
    b"\n",
    b"GET / HTTP/1.1\r\nHost: ovx\r\n\r\n",
    b"\xff" * 4096,
    b"\xff\xff\xff\xff" + b"{}",
    b"\x7f\xff\xff\xff",
    b"[" * 100_000,
    b'{"a":' * 50_000,
    valid[:-1],
    valid * 3,
    struct.pack("!I", len(valid)) + valid[:20],
    struct.pack("<I", len(valid)) + valid[:20],
    struct.pack("!I", 6) + b"[1e99]",
    b'{"version":1e999,"commands":[],"timeout":-1,"dryRun":null}\n',
    b'{"version":1,"commands":[{"addBridge":{"bridge":"\xff\xfe","mayExist":false}}]}\n',
] + [rng.randbytes(rng.randrange(1, 5000)) for _ in range(100)]
for message in messages:
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(10)
    peer.connect(path)
    try:
        peer.sendall(message)
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(65536):
            pass
    except (BrokenPipeError, ConnectionResetError):
        pass
    peer.close()
# Many that say nothing at all, and go away by themselves.
idle = []
for _ in range(50):
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(1)
    try:
        peer.connect(path)
    except OSError:
        break
    idle.append(peer)
