"""Eyes in namespaces: sockets that see frames, and the kernel's news of its forwarding table."""

import ctypes
import os
import select
import socket
import struct
import time

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
ETHERTYPE = 0x88b5
RTMGRP_NEIGH = 1 << 2
NEWNEIGH, DELNEIGH = 28, 29


def in_namespace(name, make):
    """Makes something, such as a socket, in a namespace; it stays there."""
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    other = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        if LIBC.setns(other, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {name}")
        try:
            return make()
        finally:
            LIBC.setns(own, CLONE_NEWNET)
    finally:
        os.close(own)
        os.close(other)


def mac_bytes(text):
    return bytes.fromhex(text.replace(":", ""))


class Wire:
    """A packet socket on a device in a namespace."""

    def __init__(self, place, device="eth0", protocol=ETHERTYPE):
        def make():
            one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
            one.bind((device, protocol))
            # PACKET_MR_PROMISC: frames for other Ethernet addresses too.
            one.setsockopt(263, 1, struct.pack("iHH8s", socket.if_nametoindex(device), 1, 0, b""))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
            return one
        self.socket = in_namespace(place.name, make)
        self.socket.setblocking(False)

    def send(self, to, sender, body=b""):
        self.socket.send(mac_bytes(to) + mac_bytes(sender) + struct.pack("!H", ETHERTYPE) + body.ljust(46, b"\0"))

    def received(self):
        """Frames that have come, without those that this side has sent."""
        frames = []
        while True:
            try:
                data, address = self.socket.recvfrom(2048)
            except BlockingIOError:
                return frames
            # PACKET_OUTGOING
            if address[2] != 4:
                frames.append(data)

    def drain(self):
        self.received()

    def close(self):
        self.socket.close()


def seconds_until_heard(begin, sender, to, station, receiver, wanted, patience=20, interval=0.0005):
    """Begins something, and sends a frame to a station every half millisecond until one is seen at the receiver."""
    receiver.drain()
    began = time.monotonic()
    begin()
    while True:
        now = time.monotonic()
        if now - began > patience:
            return None
        sender.send(to, station)
        if select.select([receiver.socket], [], [], interval)[0]:
            if any(wanted(frame) for frame in receiver.received()):
                return time.monotonic() - began


class NeighborNews:
    """The kernel's news of forwarding entries, with the device's index and the remote VTEP."""

    def __init__(self, place):
        def make():
            one = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
            one.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
            one.bind((0, RTMGRP_NEIGH))
            return one
        self.socket = in_namespace(place.name, make)
        self.socket.setblocking(False)

    def news(self):
        """(message type, MAC, VTEP) of what has happened to entries of VXLAN devices."""
        found = []
        while True:
            try:
                data = self.socket.recv(1 << 16)
            except BlockingIOError:
                return found
            offset = 0
            while offset + 16 <= len(data):
                length, kind = struct.unpack_from("IH", data, offset)
                if kind in (NEWNEIGH, DELNEIGH) and data[offset + 16] == socket.AF_BRIDGE:
                    attributes, at = {}, offset + 28
                    while at + 4 <= offset + length:
                        size, name = struct.unpack_from("HH", data, at)
                        if size < 4:
                            break
                        attributes[name] = data[at + 4:at + size]
                        at += size + 3 & ~3
                    if 1 in attributes and len(attributes.get(2, b"")) == 6:
                        found.append((kind, attributes[2].hex(":"), attributes[1]))
                offset += length + 3 & ~3

    def wait(self, kind, mac, seconds):
        """The moment at which an entry came or went; None where it did not."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self.socket], [], [], left)[0]:
                now = time.monotonic()
                if any(one[0] == kind and one[1] == mac for one in self.news()):
                    return now
        return None

    def close(self):
        self.socket.close()
