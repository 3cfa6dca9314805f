"""Datagrams of many sizes in several flows, some sent one by one and some cut out of one send by the kernel.

    datagrams.py receive ADDRESS PORT         prints how many came, and the digest of their sorted contents
    datagrams.py send ADDRESS PORT SEED       prints the same of what it sent

The sender goes slowly enough for no queue to overflow: what is missing was lost by a switch.
"""

import hashlib
import random
import socket
import struct
import sys
import time

UDP_SEGMENT = 103
FLOWS = 4
ROUNDS = 60
END = b"end"


def report(datagrams):
    digest = hashlib.sha256()
    for datagram in sorted(datagrams):
        digest.update(struct.pack("!I", len(datagram)) + datagram)
    print(len(datagrams), digest.hexdigest())


def receive(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_DGRAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    listener.bind((address, port))
    listener.settimeout(15)
    datagrams = []
    while (datagram := listener.recv(65535)) != END:
        datagrams.append(datagram)
    report(datagrams)


def send(address, port, seed):
    generator = random.Random(seed)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    flows = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(FLOWS)]
    for flow in flows:
        flow.connect((address, port))
    datagrams = []
    for number in range(ROUNDS):
        for flow in flows:
            kind = generator.randrange(3)
            if kind == 0:  # A few equal ones, one by one.
                size = generator.choice([1, 18, 300, 1400])
                for _ in range(generator.randrange(1, 6)):
                    datagram = generator.randbytes(size)
                    flow.send(datagram)
                    datagrams.append(datagram)
            elif kind == 1:  # One of any size.
                datagram = generator.randbytes(generator.randrange(4, 1400))
                flow.send(datagram)
                datagrams.append(datagram)
            else:  # Many out of one send, the last one shorter.
                size = generator.choice([100, 700, 1300])
                data = generator.randbytes(size * generator.randrange(2, 12) + generator.randrange(4, size))
                flow.sendmsg([data], [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("H", size))])
                datagrams += [data[start:start + size] for start in range(0, len(data), size)]
        time.sleep(0.005)
    time.sleep(0.3)
    report(datagrams)
    sys.stdout.flush()
    flows[0].send(END)


if __name__ == "__main__":
    role, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    receive(address, port) if role == "receive" else send(address, port, int(sys.argv[4]))
