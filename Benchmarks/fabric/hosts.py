"""Hosts that take part in EVPN: FRR with the kernel's bridge, and ovx with gobgpd. Both do the same by the same words."""

import json
import os
import pathlib
import signal

from lab import Failure
from underlay import AS, VNI, host_address, reflector_address, start_frr, within

RED, BLUE = "red", "blue"
VNIS = {RED: VNI, BLUE: VNI + 100}


class Host:
    """A host on the wire with one network, VNI 100, and containers in it on veth pairs."""

    kind = ""
    # What may be killed and come back: names of daemons.
    control = ()

    def __init__(self, fabric, number):
        self.fabric, self.number = fabric, number
        self.address = host_address(number)
        self.name = f"{self.kind}{number}"
        self.place = fabric.place(self.name, self.address)
        self.directory = fabric.directory(self.name)
        self.daemons = {}
        self.reflectors = [reflector_address(n + 1) for n in range(fabric.reflector_count)]
        self.prepare()
        for daemon in self.control:
            self.start(daemon)

    def container(self, name, mac, network=RED):
        """A container whose eth0 is a veth; the host's end is a port of the network's bridge."""
        container = self.fabric.lab.namespace(f"{self.fabric.name}-{name}")
        self.fabric.places.append(container)
        # Nobody but the measurement is to be heard.
        container.must("echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6")
        self.place.must(f"""
            ip link add {name} mtu 1450 type veth peer name eth0 mtu 1450 netns {container.name}
            echo 1 >/proc/sys/net/ipv6/conf/{name}/disable_ipv6
            ip link set {name} up""")
        container.must(f"ip link set eth0 address {mac} up")
        self.add_port(name, network)
        return container

    def kill(self, daemon):
        self.daemons[daemon].kill(signal.SIGKILL)
        self.fabric.lab.forget_ended()

    def cut(self, is_cut=True):
        """Takes the host from the wire without a word, as when its power fails; or puts it back."""
        self.fabric.wire.must(f"ip link set {self.name} {'down' if is_cut else 'up'}")

    def mebibytes(self, *daemons):
        total = 0
        for daemon in daemons:
            status = pathlib.Path(f"/proc/{self.pid(daemon)}/status").read_text()
            total += int(status.partition("VmRSS:")[2].split()[0])
        return total / 1024

    def pid(self, daemon):
        return self.daemons[daemon].pid

    # What a kind of host has of its own.

    def prepare(self):
        raise NotImplementedError

    def start(self, daemon):
        raise NotImplementedError

    def add_network(self, network):
        raise NotImplementedError

    def add_port(self, name, network):
        raise NotImplementedError

    def remotes(self):
        """Addresses of other hosts that are in force."""
        raise NotImplementedError

    def rests(self):
        """Whether all that is in force is told by somebody."""
        return True

    def has(self, mac):
        raise NotImplementedError


class FRR(Host):
    """FRR's bgpd and zebra, which drive the kernel's bridge and VXLAN device."""

    kind = "frr"
    control = ("zebra", "bgpd")
    killed = ("bgpd",)
    weighed = ("zebra", "bgpd")

    def prepare(self):
        self.add_network(RED)
        (self.directory / "zebra.conf").write_text("! Nothing to say.\n")
        neighbors = "".join(f" neighbor {address} peer-group reflectors\n" for address in self.reflectors)
        hold = self.fabric.hold
        (self.directory / "bgpd.conf").write_text(f"""frr defaults datacenter
router bgp {AS}
 bgp router-id {self.address}
 no bgp default ipv4-unicast
 neighbor reflectors peer-group
 neighbor reflectors remote-as {AS}
 neighbor reflectors timers {max(1, hold // 3)} {hold}
 neighbor reflectors timers connect 1
{neighbors} address-family l2vpn evpn
  neighbor reflectors activate
  advertise-all-vni
 exit-address-family
""")

    def start(self, daemon):
        # Debian's own buffer for the kernel's news; with less zebra loses some, and leaves entries
        # behind.
        more = ("-s", 90_000_000) if daemon == "zebra" else ()
        self.daemons[daemon] = start_frr(self.place, daemon, self.directory, *more)
        if daemon == "zebra":
            within(10, "zebra does not start", (self.directory / "zserv").exists)

    def pid(self, daemon):
        return int((self.directory / f"{daemon}.pid").read_text())

    def add_network(self, network):
        # As Cumulus and others have it: nothing is learned from the tunnel, unknown unicast is not
        # flooded, ARP answered.
        vni = VNIS[network]
        self.place.must(f"""
            ip link add br{vni} type bridge
            ip link add vxlan{vni} type vxlan id {vni} local {self.address} dstport 4789 nolearning
            ip link set vxlan{vni} master br{vni}
            bridge link set dev vxlan{vni} learning off flood off neigh_suppress on
            ip link set br{vni} up
            ip link set vxlan{vni} up""")

    def add_port(self, name, network):
        self.place.must(f"ip link set {name} master br{VNIS[network]}")

    def remotes(self):
        return int(self.place.must(f"bridge fdb show dev vxlan{VNI} | grep -v ^00:00:00:00:00:00 | grep -c ' dst ' || true"))

    def has(self, mac):
        return bool(self.place.must(f"bridge fdb show | grep '^{mac} .* dst ' || true").strip())


class OVX(Host):
    """ovx-vswitchd, ovx-evpn and gobgpd."""

    kind = "ovx"
    control = ("gobgpd", "ovx-evpn")
    killed = ("gobgpd", "ovx-evpn")
    weighed = ("ovx-vswitchd", "ovx-evpn")

    programs = {}

    def prepare(self):
        neighbors = "".join(f"""
[[neighbors]]
[neighbors.config]
neighbor-address = "{address}"
peer-as = {AS}
[neighbors.timers.config]
connect-retry = 1
idle-hold-time-after-reset = 1
hold-time = {self.fabric.hold}
keepalive-interval = {max(1, self.fabric.hold // 3)}
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = "l2vpn-evpn"
""" for address in self.reflectors)
        (self.directory / "gobgpd.toml").write_text(f"""[global.config]
as = {AS}
router-id = "{self.address}"
{neighbors}""")
        self.daemons["ovx-vswitchd"] = self.place.start(
            [self.programs["ovx-vswitchd"], "--rundir", self.directory, "--log-level", "warning"],
            log=str(self.directory / "vswitchd.log"))
        within(20, "ovx-vswitchd does not start", (self.directory / "vswitchd.sock").exists)
        self.control_it(f"set switch . control_plane=evpn local_ip={self.address}")
        self.add_network(RED)
        # A bridge knows 8,192 addresses where nothing is said.
        self.control_it("set bridge br0 other_config:mac-table-size=200000")

    def control_it(self, line, seconds=60):
        return self.place.must(f"{self.programs['ovx-ctl']} --rundir {self.directory} {line}", seconds=seconds)

    def start(self, daemon):
        api = self.directory / "api.sock"
        if daemon == "gobgpd":
            api.unlink(missing_ok=True)
            argv = [self.programs["gobgpd"], "-f", self.directory / "gobgpd.toml", "--api-hosts", f"unix://{api}",
                    "--pprof-disable", "-p"]
        else:
            argv = [self.programs["ovx-evpn"], "--gobgp", f"unix:{api}", "--rundir", self.directory]
        self.daemons[daemon] = self.place.start(argv, log=str(self.directory / f"{daemon}.log"))

    def add_network(self, network):
        self.control_it(f"add-net {network} vni={VNIS[network]} subnet=172.16.0.0/12")

    def add_port(self, name, network):
        self.control_it(f"add-port br0 {name} network={network}")

    def entries(self):
        text = self.control_it("-f json fdb show br0")
        return [row for row in json.loads(text)["br0"] if row.get("remote")]

    def rests(self):
        state = json.loads(self.control_it("-f json evpn show"))
        return state["engine"] and "holding" not in state and not state["held"]

    def remotes(self):
        tables = json.loads(self.control_it("-f json fdb stats"))
        return sum(table["external"] for table in tables if table["bridge"] == "br0")

    def has(self, mac):
        return any(row["mac"] == mac for row in self.entries())


def find_programs(root, gobgpd):
    """The programs under test: those that the environment names, or those that were built last."""
    directory = os.environ.get("OVX_BIN") or root / ".build" / "release"
    # deploy/build-evpn has a directory of its own.
    places = [os.environ["OVX_EVPN_BIN"]] if os.environ.get("OVX_EVPN_BIN") else [directory, root / ".build-evpn" / "release"]
    programs = {"gobgpd": gobgpd}
    for name, where in (("ovx-vswitchd", [directory]), ("ovx-ctl", [directory]), ("ovx-evpn", places)):
        found = [path for place in where if os.access(path := pathlib.Path(place).resolve() / name, os.X_OK)]
        if not found:
            raise Failure(f"there is no {name} in {' or '.join(map(str, where))}; build it with swift build -c release "
                          "--static-swift-stdlib (ovx-evpn: deploy/build-evpn), or say in OVX_BIN and OVX_EVPN_BIN where it is")
        programs[name] = found[0]
    return programs
