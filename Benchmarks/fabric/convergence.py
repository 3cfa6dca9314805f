"""What is measured of a kind of host. Each measurement makes its own fabric and gives figures by their keys."""

import ipaddress
import pathlib
import re
import socket
import statistics
import struct
import time

from hosts import BLUE
from lab import Failure
from probes import Wire, mac_bytes, seconds_until_heard
from underlay import FIRST_VTEP, Fabric, within

FIRST, SECOND = "02:0c:00:00:00:01", "02:0c:00:00:00:02"
# Nobody has it: what is sent there goes nowhere, as nothing unknown is flooded.
NOBODY = "02:0c:00:00:00:fe"
HOLD = 9
# Of a victim, every five milliseconds.
PINGS = 5000


def two_hosts(lab, kind, name):
    """Two hosts with a container each, that reach each other."""
    fabric = Fabric(lab, name, HOLD)
    hosts = [kind(fabric, number) for number in (1, 2)]
    wires = []
    for number, (host, mac) in enumerate(zip(hosts, (FIRST, SECOND)), 1):
        wires.append(Wire(host.container(f"c{number}", mac)))
    wait_for_each_other(hosts, wires)
    return fabric, hosts, wires


def wait_for_each_other(hosts, wires, seconds=60):
    def they_do():
        for wire, mac in zip(wires, (FIRST, SECOND)):
            wire.send(NOBODY, mac)
        return hosts[0].has(SECOND) and hosts[1].has(FIRST)
    within(seconds, f"the hosts of {hosts[0].kind} do not know each other's containers", they_do, pause=0.2)


def seen(lab, kind, options):
    """Milliseconds from an address's first frame on one host until a frame from the other host gets there."""
    fabric, hosts, wires = two_hosts(lab, kind, "seen")
    took = []
    for number in range(options.samples):
        mac = f"02:0d:00:00:00:{number:02x}"
        target = mac_bytes(mac)
        seconds = seconds_until_heard(
            lambda: wires[0].send(NOBODY, mac), wires[1], mac, SECOND, wires[0], lambda frame: frame[:6] == target)
        if seconds is None:
            raise Failure(f"{kind.kind}: {mac} is not reached from the other host")
        took.append(seconds * 1000)
        time.sleep(0.2)
    fabric.remove()
    return {"p50": statistics.median(took), "max": max(took), "samples": took}


class Scale:
    """One real host, and the generator's."""

    def __init__(self, lab, kind, name):
        self.fabric = Fabric(lab, name, HOLD)
        self.generator = self.fabric.start_generator()
        self.host = kind(self.fabric, 1)
        self.container = self.host.container("c1", FIRST)
        self.inside, self.outside = Wire(self.container), Wire(self.generator.place, protocol=0x0800)
        # The sessions are up when one address has come.
        self.generator.tell("vtep", FIRST_VTEP)
        self.generator.tell("add", "02:0e:00:00:00:fe", FIRST_VTEP)
        within(60, f"{kind.kind} takes no route", lambda: self.host.has("02:0e:00:00:00:fe"), pause=0.1)
        self.base = self.host.remotes()

    def announce(self, vteps, addresses, patience):
        """Seconds until so many addresses are in force."""
        began = time.monotonic()
        self.generator.begin("announce", vteps, addresses)
        cost = 0.05
        while True:
            asked = time.monotonic()
            count = self.host.remotes()
            if count >= self.base + addresses:
                break
            if time.monotonic() - began > patience:
                raise Failure(f"{self.host.kind}: {count} of {addresses} addresses are in force after {patience} s")
            # Asking is not to be what takes the time.
            cost = time.monotonic() - asked
            time.sleep(max(0.05, cost))
        seconds = time.monotonic() - began
        self.generator.finish()
        return seconds

    def withdraw(self, patience):
        """Seconds until routes are gone, and how many have stayed until the patience was at its end."""
        began = time.monotonic()
        self.generator.tell("withdraw")
        while (left := max(0, self.host.remotes() - self.base)) and time.monotonic() - began < patience:
            time.sleep(0.1)
        seconds = time.monotonic() - began
        # The generator has taken back its first VTEP with the others.
        self.generator.tell("vtep", FIRST_VTEP)
        return seconds, left

    def additions(self, samples, tag):
        """Milliseconds from telling the reflectors one more route until a frame to it leaves the host."""
        target = ipaddress.ip_address(FIRST_VTEP).packed
        took = []

        def goes_there(frame):
            return frame[30:34] == target and frame[23] == socket.IPPROTO_UDP and struct.unpack_from("!H", frame, 36)[0] == 4789

        for number in range(samples):
            mac = f"02:0e:00:00:{tag:02x}:{number:02x}"
            seconds = seconds_until_heard(
                lambda: self.generator.begin("add", mac, FIRST_VTEP), self.inside, mac, FIRST, self.outside, goes_there,
                patience=60)
            if seconds is None:
                raise Failure(f"{self.host.kind}: a frame to {mac} does not leave the host")
            self.generator.finish()
            took.append(seconds * 1000)
            time.sleep(0.1)
        return took

    def remove(self):
        self.inside.close()
        self.outside.close()
        self.fabric.remove()


def ten_thousand(lab, kind, options):
    """Seconds in which 10,000 MAC/IP routes are in force, and in which they are gone."""
    scale = Scale(lab, kind, "many")
    seconds = scale.announce(100, 10_000, options.patience)
    gone, left = scale.withdraw(30)
    scale.remove()
    # Where some have stayed there is no time in which all were gone.
    return {"seconds": seconds, "left": left, **({} if left else {"gone": gone})}


def hundred_thousand(lab, kind, options):
    """1,000 VTEPs and 100,000 addresses: seconds, memory, and what one more costs then and beside a hundred."""
    scale = Scale(lab, kind, "huge")
    scale.announce(10, 100, options.patience)
    few = scale.additions(options.samples, 1)
    scale.withdraw(30)
    scale.base = scale.host.remotes()
    seconds = scale.announce(1000, options.addresses, options.patience)
    time.sleep(5)
    memory = scale.host.mebibytes(*scale.host.weighed)
    parts = {daemon: scale.host.mebibytes(daemon) for daemon in dict.fromkeys((*scale.host.weighed, *scale.host.control))}
    many = scale.additions(options.samples, 2)
    scale.remove()
    return {"seconds": seconds, "mib": memory, "mib_of": parts, "few": statistics.median(few),
            "many": statistics.median(many), "times": statistics.median(many) / statistics.median(few)}


def killed(lab, kind, options):
    """Frames lost, both ways, of one a millisecond each, while a daemon of either host is killed and comes back."""
    fabric, hosts, wires = two_hosts(lab, kind, "kill")
    figures = {}
    time.sleep(2)
    for daemon in kind.killed:
        for side, host in enumerate(hosts):
            lost = flow_around(host, daemon, wires)
            # By the way of what is lost: to the host whose daemon dies, and from it.
            figures[f"{daemon}-to"], figures[f"{daemon}-from"] = (
                figures.get(f"{daemon}-to", 0) + lost[side], figures.get(f"{daemon}-from", 0) + lost[1 - side])
            wait_for_each_other(hosts, wires)
            # What is held of the last time is not to help the next time.
            for other in hosts:
                within(60, f"{other.name} is not at rest", other.rests, pause=0.2)
            time.sleep(2)
    fabric.remove()
    return {"lost": sum(figures.values()), **figures}


def flow_around(host, daemon, wires, seconds=12, dies=1, returns=3):
    """Frames lost to the first and to the second container."""
    macs = (FIRST, SECOND)
    for wire in wires:
        wire.drain()
    sent, came, events = 0, [0, 0], [(dies, host.kill), (returns, host.start)]
    began = time.monotonic()

    def count():
        for index, wire in enumerate(wires):
            came[index] += sum(frame[:6] == mac_bytes(macs[index]) for frame in wire.received())

    while (now := time.monotonic() - began) < seconds:
        if events and now > events[0][0]:
            events.pop(0)[1](daemon)
            continue
        wires[0].send(SECOND, FIRST)
        wires[1].send(FIRST, SECOND)
        sent += 1
        count()
        time.sleep(0.001)
    time.sleep(0.2)
    count()
    return [sent - one for one in came]


def host_dies(lab, kind, options):
    """Seconds until the other host has forgotten a host that has fallen silent, hold time 9 s."""
    fabric, hosts, wires = two_hosts(lab, kind, "dies")
    time.sleep(2)
    hosts[1].cut()
    seconds = within(60, "a dead host's entries are still there", lambda: not hosts[0].has(SECOND), pause=0.02)
    fabric.remove()
    return {"seconds": seconds}


def victim(lab, kind, options):
    """A tenant's pings between two hosts: at rest, and while 10,000 routes come and go in another tenant's network."""
    fabric = Fabric(lab, "victim", HOLD)
    generator = fabric.start_generator()
    hosts = [kind(fabric, number) for number in (1, 2)]
    containers, wires = [], []
    for number, (host, mac) in enumerate(zip(hosts, (FIRST, SECOND)), 1):
        host.add_network(BLUE)
        containers.append(host.container(f"c{number}", mac, BLUE))
        containers[-1].must(f"ip addr add 172.17.0.{number}/16 dev eth0")
        wires.append(Wire(containers[-1]))
    wait_for_each_other(hosts, wires)
    # From here on neighbors are known, and the machine comes to rest.
    start_pings(lab, containers[0], 100).finish(30)
    base = hosts[0].remotes()
    time.sleep(5)
    idle = times_of(start_pings(lab, containers[0], PINGS))
    pinging, flaps = start_pings(lab, containers[0], PINGS), 0
    while pinging.running:
        generator.begin("announce", 100, 10_000)
        within(options.patience, f"10,000 routes do not come to {kind.kind}",
               lambda: hosts[0].remotes() >= base + 10_000, pause=0.2)
        generator.finish()
        generator.begin("withdraw")
        # Some may stay for good where news of the kernel is lost; that is not what is measured
        # here.
        within(options.patience, f"10,000 routes do not leave {kind.kind}",
               lambda: hosts[0].remotes() < base + 1000, pause=0.2)
        generator.finish()
        flaps += 1
    busy = times_of(pinging)
    fabric.remove()
    idle_p99, busy_p99 = (statistics.quantiles(times, n=100)[98] for times in (idle, busy))
    return {"idle": idle_p99, "p99": busy_p99, "max": max(busy), "times": busy_p99 / idle_p99, "flaps": flaps,
            "lost": 2 * PINGS - len(idle) - len(busy)}


def start_pings(lab, container, count):
    # Nobody reads meanwhile what it says.
    return container.start(["ping", "-i", "0.005", "-c", count, "-W", "2", "172.17.0.2"], log=str(lab.directory / "pings"))


def times_of(pinging):
    """Milliseconds of each ping that was answered."""
    pinging.finish(300)
    return [float(found) for found in re.findall(r"time=([0-9.]+) ms", pathlib.Path(pinging.log).read_text())]


MEASUREMENTS = {
    "seen": seen, "ten-thousand": ten_thousand, "hundred-thousand": hundred_thousand, "killed": killed, "dies": host_dies,
    "victim": victim,
}
