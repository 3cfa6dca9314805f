"""Hosts on one wire, and the route reflectors beside them."""

import pathlib
import shutil
import subprocess
import time

from lab import Failure

FRR = pathlib.Path("/usr/lib/frr")
AS = 65000
VNI = 100
GENERATOR = "10.0.255.100"
GENERATOR_PROGRAM = pathlib.Path(__file__).resolve().parents[1] / "evpn-generator"
FIRST_VTEP = "10.1.0.1"


def reflector_address(number):
    return f"10.0.255.{number}"


def host_address(number):
    return f"10.0.0.{number}"


def within(seconds, what, holds, pause=0.02):
    """Waits until something holds; gives the seconds that it took."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > seconds:
            raise Failure(f"after {seconds:.0f} s {what}")
        time.sleep(pause)
    return time.monotonic() - began


class Fabric:
    """A namespace that is the wire, with a bridge, and FRR's bgpd as reflectors on it."""

    def __init__(self, lab, name, hold=9, reflectors=2):
        self.lab, self.name, self.hold = lab, name, hold
        self.reflector_count = reflectors
        self.wire = lab.namespace(f"{name}-net")
        self.wire.must("ip link add br0 type bridge && ip link set br0 up")
        self.places = [self.wire]
        self.reflectors = []
        for number in range(1, reflectors + 1):
            self.start_reflector(number)

    def place(self, name, address, mtu=1500):
        """A namespace with an eth0 on the wire. Hosts that nobody else plays are behind the generator's."""
        place = self.lab.namespace(f"{self.name}-{name}")
        self.places.append(place)
        self.wire.must(f"""
            ip link add {name} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {place.name}
            ip link set {name} master br0 up""")
        place.must(f"""
            ip addr add {address}/16 dev eth0
            ip link set eth0 up""")
        if address != GENERATOR:
            place.must(f"ip route add 10.1.0.0/16 via {GENERATOR}")
        return place

    def directory(self, name):
        directory = self.lab.directory / f"{self.name}-{name}"
        directory.mkdir(exist_ok=True)
        return directory

    def start_reflector(self, number):
        place = self.place(f"rr{number}", reflector_address(number))
        directory = self.directory(f"rr{number}")
        (directory / "bgpd.conf").write_text(f"""frr defaults datacenter
router bgp {AS}
 bgp router-id {reflector_address(number)}
 no bgp default ipv4-unicast
 neighbor hosts peer-group
 neighbor hosts remote-as {AS}
 neighbor hosts timers {max(1, self.hold // 3)} {self.hold}
 bgp listen range 10.0.0.0/16 peer-group hosts
 address-family l2vpn evpn
  neighbor hosts activate
  neighbor hosts route-reflector-client
 exit-address-family
""")
        self.reflectors.append(start_frr(place, "bgpd", directory, "-n", "-Z"))

    def start_generator(self):
        place = self.place("gen", GENERATOR)
        # What is sent to hosts that are not there ends here, and is not answered.
        place.must("ip route add blackhole 10.1.0.0/16")
        return Generator(self, place)

    def remove(self):
        for place in self.places:
            for process in [p for p in self.lab.processes if p.argv[:4] == ["ip", "netns", "exec", place.name]]:
                process.kill(15, patience=3)
                self.lab.processes.remove(process)
        self.lab.remove(self.places, [])


def start_frr(place, daemon, directory, *more):
    """Starts a daemon of FRR in a directory of its own, as the user that it insists on."""
    directory.parent.chmod(0o711)
    for path in (directory, *directory.iterdir()):
        shutil.chown(path, "frr", "frr")
    return place.start(
        [FRR / daemon, "-f", directory / f"{daemon}.conf", "-i", directory / f"{daemon}.pid",
         "-z", directory / "zserv", "--vty_socket", directory, "--log", "stdout", "--log-level", "warnings", *more],
        log=str(directory / f"{daemon}.log"))


class Generator:
    """evpn-generator, which tells the reflectors of hosts that nobody has to run."""

    def __init__(self, fabric, place):
        self.place = place
        peers = [reflector_address(number + 1) for number in range(fabric.reflector_count)]
        self.process = place.start(
            [GENERATOR_PROGRAM, "--local", GENERATOR, "--as", AS, "--vni", VNI, "--vteps", FIRST_VTEP, *peers],
            stdin=subprocess.PIPE)
        self.process.expect("up", 30)

    def tell(self, *words, seconds=120):
        """Gives a command, and the seconds until all of it was sent."""
        self.begin(*words)
        return self.finish(seconds)

    def begin(self, *words):
        self.process.popen.stdin.write((" ".join(map(str, words)) + "\n").encode())
        self.process.popen.stdin.flush()

    def finish(self, seconds=120):
        return float(self.process.expect("done", seconds).split()[1])
