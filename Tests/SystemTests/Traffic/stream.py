"""Numbered datagrams of 60 bytes at a steady rate, and which of them arrive.

    stream.py receive PORT                     until SIGTERM; prints "RECEIVED LOST REPEATED", lost up to the last that came
    stream.py send ADDRESS PORT RATE SECONDS   prints how many it sent
    stream.py sink PORT                        takes one TCP connection; prints how many bytes came
    stream.py pour ADDRESS PORT SECONDS        fills one, and prints how many bytes it took
"""

import signal
import socket
import struct
import sys
import time


def receive(port):
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)  # SO_RCVBUFFORCE
    listener.bind(("", port))
    numbers = []

    def finish(*_):
        listener.settimeout(0)
        try:
            while True:
                numbers.append(struct.unpack_from("!I", listener.recv(100))[0])
        except OSError:
            pass
        last = max(numbers, default=-1)
        print(len(numbers), last + 1 - len(set(numbers)), len(numbers) - len(set(numbers)), flush=True)
        sys.exit(0)

    signal.signal(signal.SIGTERM, finish)
    print("ready", file=sys.stderr, flush=True)
    while True:
        numbers.append(struct.unpack_from("!I", listener.recv(100))[0])


def send(address, port, rate, seconds):
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect((address, port))
    start = time.monotonic()
    count = int(rate * seconds)
    for number in range(count):
        wait = start + number / rate - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        sender.send(struct.pack("!I", number) + bytes(28))
    print(count, flush=True)


def sink(port):
    with socket.create_server(("", port)) as listener:
        print("ready", file=sys.stderr, flush=True)
        connection, _ = listener.accept()
    count = 0
    while data := connection.recv(1 << 20):
        count += len(data)
    print(count, flush=True)


def pour(address, port, seconds):
    connection = socket.create_connection((address, port))
    connection.settimeout(10)
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        connection.sendall(bytes(100_000))
        count += 100_000
        time.sleep(0.005)
    connection.close()
    print(count, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "receive":
        receive(int(sys.argv[2]))
    elif sys.argv[1] == "sink":
        sink(int(sys.argv[2]))
    elif sys.argv[1] == "pour":
        pour(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
    else:
        send(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5]))
