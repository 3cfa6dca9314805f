"""Asks for IPv6 addresses as an honest client does not (RFC 8415), from its own link-local address.

dhcp6.py INTERFACE solicit                    as an honest one
dhcp6.py INTERFACE rebind ADDRESS             goes on with an address that it never had
dhcp6.py INTERFACE relay STATION              passes for a relay that a station has asked
dhcp6.py INTERFACE flood SECONDS              solicits, and asks for routers, as fast as it can

Says which addresses it is told, and then "end".
"""

import ipaddress
import os
import re
import socket
import struct
import subprocess
import sys
import time

interface, kind = sys.argv[1:3]
index = socket.if_nametoindex(interface)
SERVERS = ("ff02::1:2", 547, 0, index)


def own():
    while True:
        text = subprocess.run(
            ["ip", "-6", "-o", "addr", "show", "dev", interface, "scope", "link"], capture_output=True, text=True
        ).stdout
        found = re.search(r"inet6 (fe80::\S+)/", text)
        if found and "tentative" not in text:
            return found.group(1)
        time.sleep(0.05)


def option(number, body):
    return struct.pack(">HH", number, len(body)) + body


address = own()
name = option(1, b"\0\3\0\1" + os.urandom(6))


def message(number, offered=b""):
    return bytes([number]) + os.urandom(3) + name + option(8, b"\0\0") + option(3, struct.pack(">III", 7, 0, 0) + offered)


out = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
out.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
out.bind((address, 546, 0, index))
match kind:
    case "solicit":
        request = message(1)
    case "rebind":
        request = message(6, option(5, ipaddress.ip_address(sys.argv[3]).packed + struct.pack(">II", 600, 600)))
    case "relay":
        station = bytes.fromhex(sys.argv[3].replace(":", ""))
        request = b"\x0c\0" + ipaddress.ip_address("fd42::").packed + ipaddress.ip_address("fe80::7").packed
        request += option(79, b"\0\1" + station) + option(9, message(1))
        # What comes back to a relay comes to its port.
        out.close()
        out = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        out.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        out.bind((address, 547, 0, index))
    case "flood":
        routers = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        routers.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        routers.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        print("begin", flush=True)
        end = time.monotonic() + float(sys.argv[3])
        while time.monotonic() < end:
            for _ in range(100):
                out.sendto(message(1), SERVERS)
            routers.sendto(b"\x85\0\0\0\0\0\0\0", ("ff02::2", 0, 0, index))
        sys.exit()

end = time.monotonic() + 3
while time.monotonic() < end:
    out.sendto(request, SERVERS)
    out.settimeout(0.5)
    try:
        answer = out.recv(2000)
    except TimeoutError:
        continue
    # Whatever is in it, in options or in those within.
    for place in re.finditer(rb"\0\5\0\x18(.{16})", answer, re.DOTALL):
        print(ipaddress.ip_address(place.group(1)), flush=True)
    break
print("end")
