"""Prints the VXLAN datagrams that pass an interface, one JSON object a line.

wire.py INTERFACE [out]       until SIGTERM; with "out", only those that leave this host

A line "ready" on standard error says that it listens. A superframe that the host hands to its underlay to be cut into
datagrams there is shown as it is handed over; "gso" tells that there is more than one datagram in it.
"""

import json
import signal
import socket
import struct
import sys

interface, outgoing_only = sys.argv[1], "out" in sys.argv[2:]
tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
tap.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)
tap.setsockopt(263, 15, 1)  # SOL_PACKET, PACKET_VNET_HDR: it tells the size of a superframe's pieces
tap.bind((interface, 0))


def show(data, kind):
    if outgoing_only and kind != socket.PACKET_OUTGOING:
        return
    _, gso_type, _, gso_size, _, _ = struct.unpack_from("<BBHHHH", data)
    frame = data[10:]
    ethertype = struct.unpack_from("!H", frame, 12)[0]
    if ethertype == 0x0800 and frame[23] == 17:
        total, ident, fragment, ttl = struct.unpack_from("!HHHB", frame, 16)
        ip = dict(
            version=4, tos=frame[15], ttl=ttl, dontFragment=bool(fragment & 0x4000), fragment=fragment & 0x3FFF,
            headerLength=(frame[14] & 15) * 4, source=socket.inet_ntoa(frame[26:30]),
            destination=socket.inet_ntoa(frame[30:34]),
            headerChecksumValid=checksum(frame[14 : 14 + (frame[14] & 15) * 4]) == 0,
        )
        udp = 14 + (frame[14] & 15) * 4
    elif ethertype == 0x86DD and frame[20] == 17:
        ip = dict(
            version=6, tos=(struct.unpack_from("!H", frame, 14)[0] >> 4) & 255, ttl=frame[21], dontFragment=True,
            fragment=0, headerLength=40, source=socket.inet_ntop(socket.AF_INET6, frame[22:38]),
            destination=socket.inet_ntop(socket.AF_INET6, frame[38:54]), headerChecksumValid=True,
        )
        udp = 54
    else:
        return
    source_port, destination_port, length, udp_checksum = struct.unpack_from("!HHHH", frame, udp)
    if destination_port != 4789:
        return
    vxlan = frame[udp + 8 :]
    ip.update(
        sourcePort=source_port, destinationPort=destination_port, udpLength=length, udpChecksum=udp_checksum,
        gso=gso_type != 0, flags=vxlan[0], reserved=vxlan[1:4].hex() + vxlan[7:8].hex(),
        vni=int.from_bytes(vxlan[4:7], "big"), inner=vxlan[8:].hex(),
    )
    print(json.dumps(ip), flush=True)


def checksum(header):
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def finish(*_):
    tap.settimeout(0)
    try:
        while True:
            data, address = tap.recvfrom(1 << 17)
            show(data, address[2])
    except OSError:
        pass
    sys.stdout.flush()
    sys.exit(0)


signal.signal(signal.SIGTERM, finish)
print("ready", file=sys.stderr, flush=True)
while True:
    data, address = tap.recvfrom(1 << 17)
    show(data, address[2])
