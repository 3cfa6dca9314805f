"""Superframes of UDP datagrams to a trunk.

tagged_datagrams.py receive INTERFACE          prints at SIGTERM how many bytes of payload came with a tag
tagged_datagrams.py send ADDRESS COUNT         sends COUNT superframes of 30 datagrams of 1,000 bytes each
"""

import signal
import socket
import sys
import time

PORT = 5003


def receive(interface):
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    tap.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
    tap.setsockopt(263, 8, 1)  # SOL_PACKET, PACKET_AUXDATA
    tap.setsockopt(263, 23, 1)  # SOL_PACKET, PACKET_IGNORE_OUTGOING
    tap.bind((interface, 0))
    total = 0

    def finish(*_):
        print(total)
        sys.stdout.flush()
        sys.exit(0)

    signal.signal(signal.SIGTERM, finish)
    print("ready", file=sys.stderr, flush=True)
    while True:
        frame, beside, _, _ = tap.recvmsg(1 << 17, 256)
        # struct tpacket_auxdata: TP_STATUS_VLAN_VALID says that the kernel took a tag out.
        is_tagged = any(int.from_bytes(data[:4], sys.byteorder) & 0x10 for _, _, data in beside)
        header = 42 if frame[12:14] == b"\x08\x00" else 62
        if is_tagged and int.from_bytes(frame[header - 6 : header - 4], "big") == PORT:
            total += len(frame) - header


def send(address, count):
    out = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    out.setsockopt(socket.IPPROTO_UDP, 103, 1000)  # UDP_SEGMENT
    out.connect((address, PORT))
    for _ in range(count):
        out.send(b"x" * 30_000)
        time.sleep(0.002)


if sys.argv[1] == "receive":
    receive(sys.argv[2])
else:
    send(sys.argv[2], int(sys.argv[3]))
