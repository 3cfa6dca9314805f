"""Numbered datagrams, so many a second, of which each that is missing counts.

    numbered.py send ADDRESS PORT RATE SECONDS    to a host, or to a broadcast address; prints how many were sent
    numbered.py receive PORT                      until none has come for 5 s after the first; prints how many came, and
                                                  on a line each, up to 20, from when to when (seconds of the monotonic
                                                  clock) which numbers are missing between others

What is lost at the end is seen by the two counts only.
"""

import socket
import struct
import sys
import time


def send(address, port, rate, seconds):
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    began, sent = time.monotonic(), 0
    while (now := time.monotonic() - began) < seconds:
        if sent >= now * rate:
            time.sleep(1 / rate)
            continue
        # A machine that was busy meanwhile is behind; what is overdue goes in small portions.
        for _ in range(min(20, int(now * rate) - sent + 1)):
            sender.sendto(struct.pack("!I", sent) + bytes(60), (address, port))
            sent += 1
    print(sent)


def receive(port):
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
    receiver.bind(("", port))
    print("ready", file=sys.stderr, flush=True)
    numbers, gaps, last, when = set(), [], -1, time.monotonic()
    while True:
        try:
            number = struct.unpack_from("!I", receiver.recv(100))[0]
        except socket.timeout:
            break
        receiver.settimeout(5)
        now = time.monotonic()
        if number > last + 1:
            gaps.append(f"{when:.3f} to {now:.3f}: {last + 1} to {number - 1}")
        last, when = max(last, number), now
        numbers.add(number)
    print(len(numbers), *gaps[:20], sep="\n")


if __name__ == "__main__":
    if sys.argv[1] == "send":
        send(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
    else:
        receive(int(sys.argv[2]))
