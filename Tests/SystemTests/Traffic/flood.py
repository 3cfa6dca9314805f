"""Sends random frames that say who sent them.

flood.py INTERFACE ORIGIN COUNT SEED TAGS [MAC...]

Every frame carries the mark that sniff.py looks for, with ORIGIN and the VLAN tag it was sent with ("-" for none).
TAGS are the tags to use, separated by commas; the first is used most. Destinations are broadcast, multicast, random, and
the given MACs.
"""

import random
import socket
import struct
import sys
import time

interface, origin, count, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
tags, macs = sys.argv[5].split(","), [bytes.fromhex(m.replace(":", "")) for m in sys.argv[6:]]
rng = random.Random(seed)
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind((interface, 0))
with open(f"/sys/class/net/{interface}/address") as file:
    own = bytes.fromhex(file.read().strip().replace(":", ""))


def tagged(tag):
    return b"" if tag == "-" else struct.pack("!HH", 0x8100, (rng.randrange(8) << 13) | int(tag))


for number in range(count):
    # The first frames are the plainest of each kind: what must arrive somewhere has one that
    # certainly does.
    plain = number < 3 * len(tags)
    tag = tags[number % len(tags)] if plain else rng.choice(tags + [tags[0]] * len(tags))
    if plain:
        destination, source, ethertype = b"\xff" * 6, own, 0x88B5
    else:
        destination = rng.choice(
            [b"\xff" * 6, b"\x33\x33" + rng.randbytes(4), b"\x01\x00\x5e" + rng.randbytes(3), rng.randbytes(6)] + macs * 2
        )
        source = rng.choice([own, bytes([rng.randrange(256) & 0xFE]) + rng.randbytes(5), rng.randbytes(6)] + macs)
        ethertype = rng.choice([0x88B5, 0x0800, 0x0806, 0x86DD, 0x8100, 0x88A8, rng.randrange(0x600, 0x10000)])
    # A second tag, behind the first; alone it would be the first, and the mark a lie.
    nested = b"" if plain or tag == "-" or rng.random() > 0.1 else tagged(rng.choice(tags))
    mark = b"OVXMARK:" + f"{origin}:{tag}:".encode()
    body = mark + (b"" if plain else rng.randbytes(rng.randrange(0, 1300)))
    frame = destination + source + tagged(tag) + nested + struct.pack("!H", ethertype) + body
    try:
        out.send(frame.ljust(60, b"\0"))
    except OSError:
        pass  # A device may refuse what is malformed; the plain frames are checked at the far end.
    if number % 16 == 0:
        time.sleep(0.002)
