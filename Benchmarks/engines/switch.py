"""A host with ovx-vswitchd on it, for engines to attach containers to."""

import dataclasses

from peers import wait_until


@dataclasses.dataclass
class Network:
    """A network of the switch, and the host's own port in it."""

    name: str
    tag: int
    port: str


class Switch:
    def __init__(self, lab, host, programs):
        self.programs = programs
        self.host = host
        self.rundir = lab.directory / f"ovx-{host.short}"
        self.rundir.mkdir()
        lab.processes.append(
            self.host.start([programs / "ovx-vswitchd", "--rundir", self.rundir], log=str(self.rundir / "log")))
        wait_until("ovx-vswitchd listens", (self.rundir / "vswitchd.sock").exists)

    def control(self, words):
        return self.host.must(f"{self.programs}/ovx-ctl --rundir {self.rundir} {words}").strip()

    def network(self, name, vni, number, settings=""):
        """Makes the network 10.N.0.0/16; the host answers for its first address."""
        self.control(f"add-net {name} vni={vni} subnet=10.{number}.0.0/16 {settings}")
        network = Network(name, int(self.control(f"get network {name} tag")), f"host-{name}")
        self.control(f"add-port br0 {network.port} type=internal tag={network.tag}")
        self.host.must(f"ip addr add 10.{number}.0.1/16 dev {network.port} && ip link set {network.port} up")
        return network
