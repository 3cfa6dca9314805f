"""The switches that are compared: each makes the same two hosts and three containers, and joins them in its own way."""

import os
import time

from lab import Failure, underlay_address

NEAR, FAR, NEIGHBOR = "10.9.0.1", "10.9.0.2", "10.9.0.3"
VNI = 100
# Another tenant on the same hosts, with a bridge and a VNI of its own.
ROGUE_NEAR, ROGUE_FAR = "10.200.0.1", "10.200.0.2"
ROGUE_VNI = 200


class Peer:
    """Two hosts on an underlay: container `near` and its `neighbor` on the first, `far` on the second."""

    name = label = ""

    def __init__(self, lab, underlay, programs):
        self.lab = lab
        self.programs = programs
        self.directory = lab.directory / self.name / underlay
        self.directory.mkdir(parents=True, exist_ok=True)
        self._namespaces, self._processes = len(lab.namespaces), len(lab.processes)
        self.daemons = []  # Host by host.
        self.hosts = lab.hosts(self.name, underlay)
        self.near = self.far = self.neighbor = None
        self._rogues = None
        self._rogue_remotes = 1
        self.build()
        self._namespaces = lab.namespaces[self._namespaces:]
        self._processes = lab.processes[self._processes:]
        lab.forget_ended()
        for address in (FAR, NEIGHBOR):
            self.wait_for(address)

    def build(self):
        raise NotImplementedError

    def tune(self, measurement):
        """What an operator who knows the traffic would set for it."""

    def rogues(self, remotes):
        """The containers of another tenant, one on each host, whose tunnel on the first host has so many remotes.

        All but the first are stations that nobody is: what is sent to them costs the sender what it costs, and ends at the
        far end of the cable.
        """
        near = self.hosts[0]
        if not self._rogues:
            for number in range(2, 11):
                near.must(f"ip neigh replace {extra_remote(number)} lladdr 02:00:00:00:05:{number:02x} dev eth0 nud permanent")
            known = len(self.lab.namespaces), len(self.lab.processes)
            self._rogues = self.build_rogues()
            self._namespaces += self.lab.namespaces[known[0]:]
            self._processes += self.lab.processes[known[1]:]
        if remotes != self._rogue_remotes:
            self.set_rogue_remotes([underlay_address(2), *map(extra_remote, range(2, remotes + 1))])
            self._rogue_remotes = remotes
        self._rogues[0].must(f"for i in $(seq 50); do ping -c 1 -W 0.2 {ROGUE_FAR} >/dev/null && exit; done; exit 1")
        return self._rogues

    def build_rogues(self):
        raise Failure(f"{self.label} has no second tenant")

    def set_rogue_remotes(self, addresses):
        raise Failure(f"{self.label} has no second tenant")

    def wait_for(self, address):
        """Learning, neighbor discovery and the first connection are not measured."""
        try:
            self.near.must(f"for i in $(seq 50); do ping -c 1 -W 0.2 {address} >/dev/null && exit; done; exit 1")
        except Failure:
            raise Failure(f"{self.label}: {address} does not answer a ping. {self.last_words()}") from None

    def check(self):
        """Raises when a daemon is dead."""
        for daemon in self.daemons:
            if not daemon.running:
                raise Failure(f"{self.label}: {daemon.name} ended with {daemon.popen.returncode}. {self.last_words()}")

    @property
    def alive(self):
        return all(daemon.running for daemon in self.daemons)

    def last_words(self):
        return " ".join(f"[log] {daemon.complaint()}" for daemon in self.daemons)

    def remove(self):
        self.lab.remove([n for n in self._namespaces if n in self.lab.namespaces], self._processes)

    def start_daemon(self, host, argv, environment=None):
        log = self.directory / f"{host.short}-{os.path.basename(argv[0])}.log"
        daemon = host.start(argv, environment=environment, log=log)
        self.daemons.append(daemon)
        return daemon


class Kernel(Peer):
    """Linux's own bridge and vxlan device, containers on veth pairs."""

    name, label = "kernel", "kernel bridge + vxlan"

    def build(self):
        near, far = self.hosts
        self.near = self.lab.veth_container("c1", near, NEAR)
        self.neighbor = self.lab.veth_container("c2", near, NEIGHBOR)
        self.far = self.lab.veth_container("c1", far, FAR)
        kernel_vtep(near, 1, ["c1", "c2"])
        kernel_vtep(far, 2, ["c1"])

    def tune(self, measurement):
        """Receive packet steering on what comes from containers, for datagrams of many flows: measured, it gains them half.

        TCP loses a quarter by it, and for one flow it is the hash's luck; no operator can have both, so this is a favour.
        """
        mask = f"{(1 << os.cpu_count()) - 1:x}" if measurement.many_flows else "0"
        for host in self.hosts:
            host.must(f"echo {mask} >/sys/class/net/c1/queues/rx-0/rps_cpus")

    def build_rogues(self):
        rogues = [self.lab.veth_container("r1", host, address)
                  for host, address in zip(self.hosts, (ROGUE_NEAR, ROGUE_FAR))]
        for number, host in enumerate(self.hosts, 1):
            kernel_vtep(host, number, ["r1"], "br1", "vxlan1", ROGUE_VNI)
        return rogues

    def set_rogue_remotes(self, addresses):
        lines = "\n".join(f"bridge fdb append 00:00:00:00:00:00 dev vxlan1 dst {address}" for address in addresses)
        self.hosts[0].must(
            f"while bridge fdb del 00:00:00:00:00:00 dev vxlan1 2>/dev/null; do :; done\n{lines}")


def kernel_vtep(host, number, ports, bridge="br0", device="vxlan0", vni=VNI):
    host.must(
        f"ip link add {bridge} type bridge && ip link set {bridge} up\n"
        f"ip link add {device} type vxlan id {vni} local {underlay_address(number)} remote {underlay_address(3 - number)}"
        f" dstport 4789 && ip link set {device} master {bridge} up\n"
        f"for port in {' '.join(ports)}; do ip link set $port master {bridge}; done")


def extra_remote(number):
    return f"192.168.5.{100 + number}"


def start_open_vswitch(ovs, host, directory, start):
    """Starts its two daemons, whose files are in a directory of their own; gives the words of ovs-vsctl, and their environment.

    `start` is given a program's words, and what its environment is to have.
    """
    environment = {**ovs.environment, "OVS_RUNDIR": str(directory), "OVS_LOGDIR": str(directory),
                   "OVS_DBDIR": str(directory), "OVS_SYSCONFDIR": str(directory)}
    socket = directory / "db.sock"
    host.must(f"{ovs.ovsdb_tool} create {directory}/conf.db {ovs.schema}", environment)
    start([ovs.ovsdb_server, f"{directory}/conf.db", f"--remote=punix:{socket}", "--no-chdir", "-vsyslog:off"], environment)
    wait_until(f"{socket} exists", socket.exists)
    vsctl = f"{ovs.vsctl} --db=unix:{socket} --timeout=10"
    host.must(f"{vsctl} --no-wait init", environment)
    start([ovs.vswitchd, f"unix:{socket}", "--no-chdir", "-vsyslog:off"], environment)
    return vsctl, environment


class OpenVSwitch(Peer):
    """Open vSwitch's userspace datapath, with a bridge for the underlay as its manual prescribes."""

    name, label = "ovs", "Open vSwitch, userspace datapath"

    def build(self):
        near, far = self.hosts
        self.near = self.lab.veth_container("c1", near, NEAR)
        self.neighbor = self.lab.veth_container("c2", near, NEIGHBOR)
        self.far = self.lab.veth_container("c1", far, FAR)
        for container in (self.near, self.neighbor, self.far):
            # Without this its packets reach the switch with half a checksum, and no TCP connection
            # comes about.
            container.must("ethtool -K eth0 tx off >/dev/null")
        self.switch(near, 1, ["c1", "c2"])
        self.switch(far, 2, ["c1"])

    def switch(self, host, number, ports):
        directory = self.directory / host.short
        directory.mkdir()
        vsctl, environment = start_open_vswitch(
            self.programs.ovs, host, directory, lambda *arguments: self.start_daemon(host, *arguments))
        address = underlay_address(number)
        adding = " ".join(f"-- add-port br0 {port}" for port in ports)
        host.must(
            f"mac=$(cat /sys/class/net/eth0/address)\n"
            f"{vsctl} add-br br-phy -- set bridge br-phy datapath_type=netdev other_config:hwaddr=$mac"
            f" -- add-port br-phy eth0\n"
            f"ip addr del {address}/24 dev eth0 && ip addr add {address}/24 dev br-phy && ip link set br-phy up\n"
            f"{vsctl} add-br br0 -- set bridge br0 datapath_type=netdev -- add-port br0 vxlan0 --"
            f" set interface vxlan0 type=vxlan options:key={VNI} options:remote_ip={underlay_address(3 - number)} {adding}",
            environment)


class Ovx(Peer):
    """ovx with all its containers on one kind of port."""

    def build(self):
        near, far = self.hosts
        self.switch(near, 1)
        self.switch(far, 2)
        self.near = self.container(near, "c1", NEAR)
        self.neighbor = self.container(near, "c2", NEIGHBOR)
        self.far = self.container(far, "c1", FAR)

    def rundir(self, host):
        return self.directory / host.short

    def ctl(self, host, command):
        return host.must(f"{self.programs.ovx}/ovx-ctl --rundir {self.rundir(host)} {command}")

    def switch(self, host, number):
        rundir = self.rundir(host)
        rundir.mkdir()
        daemon = self.start_daemon(
            host, [f"{self.programs.ovx}/ovx-vswitchd", "--rundir", rundir, *self.programs.ovx_arguments])
        wait_until(f"{rundir}/vswitchd.sock exists",
                   lambda: not daemon.running or (rundir / "vswitchd.sock").exists())
        self.check()
        self.ctl(host, f"add-br br0 -- add-port br0 vxlan0 key={VNI} remote={underlay_address(3 - number)}")

    def learn_next_hop(self, host, number):
        """What leaves whole is addressed by the switch itself, so the next hop's address has to be known."""
        host.must(f"ping -c 1 -W 1 {underlay_address(3 - number)} >/dev/null || true")

    def container(self, host, name, address, bridge="br0"):
        raise NotImplementedError

    def build_rogues(self):
        for number, host in enumerate(self.hosts, 1):
            self.ctl(host, f"add-br br1 -- add-port br1 vxlan1 key={ROGUE_VNI} remote={underlay_address(3 - number)}")
        return [self.container(host, "r1", address, "br1")
                for host, address in zip(self.hosts, (ROGUE_NEAR, ROGUE_FAR))]

    def set_rogue_remotes(self, addresses):
        self.ctl(self.hosts[0], f"set interface vxlan1 options:remote_ip={','.join(addresses)}")


class OvxTAP(Ovx):
    name, label = "ovx-tap", "ovx, containers on TAPs"

    def container(self, host, name, address, bridge="br0"):
        container = self.lab.namespace(f"{host.short}-{name}")
        self.ctl(host, f"attach {bridge} {container.name} eth0 ip={address}/24")
        return container


class OvxVeth(Ovx):
    name, label = "ovx-veth", "ovx, containers on veth pairs"

    def container(self, host, name, address, bridge="br0"):
        container = self.lab.veth_container(name, host, address)
        self.ctl(host, f"add-port {bridge} {name}")
        return container


class OvxFast(OvxVeth):
    """ovx that has the kernel repeat its decisions for TCP."""

    name, label = "ovx-fast", "ovx, veth pairs, fast-path=on"

    def switch(self, host, number):
        super().switch(host, number)
        self.learn_next_hop(host, number)
        self.ctl(host, "set switch . other_config:fast-path=on")


class OvxNetwork(OvxFast):
    """The same for containers of a network, which are held to their addresses."""

    name, label = "ovx-network", "ovx, containers of a network, veths, fast-path=on"

    def switch(self, host, number):
        super().switch(host, number)
        self.ctl(host, "del-port br0 vxlan0")
        self.ctl(host, f"add-net red vni={VNI} bridge=br0 subnet={NEAR.rpartition('.')[0]}.0/24 remotes={underlay_address(3 - number)}")

    def container(self, host, name, address, bridge="br0"):
        container = self.lab.namespace(f"{host.short}-{name}")
        self.ctl(host, f"attach {'red' if bridge == 'br0' else bridge} {container.name} eth0 ip={address}/24 kind=veth")
        return container


class Interop(OvxTAP):
    """ovx on the first host, the kernel's bridge and vxlan device on the second."""

    name, label = "interop", "ovx here, kernel VTEP there"

    def build(self):
        near, far = self.hosts
        self.switch(near, 1)
        self.near = self.container(near, "c1", NEAR)
        self.neighbor = self.container(near, "c2", NEIGHBOR)
        self.far = self.lab.veth_container("c1", far, FAR)
        kernel_vtep(far, 2, ["c1"])

    def build_rogues(self):
        near, far = self.hosts
        self.ctl(near, f"add-br br1 -- add-port br1 vxlan1 key={ROGUE_VNI} remote={underlay_address(2)}")
        rogues = self.container(near, "r1", ROGUE_NEAR, "br1"), self.lab.veth_container("r1", far, ROGUE_FAR)
        kernel_vtep(far, 2, ["r1"], "br1", "vxlan1", ROGUE_VNI)
        return rogues


class Inject(OvxTAP):
    """ovx that hands superframes whole to an underlay that segments tunnels."""

    name, label = "inject", "ovx, TAPs, superframes=inject"

    def switch(self, host, number):
        super().switch(host, number)
        self.learn_next_hop(host, number)
        self.ctl(host, "set interface vxlan0 options:superframes=inject")


class InteropInject(Inject, Interop):
    """The same on the first host, the kernel's bridge and vxlan device on the second."""

    name, label = "interop-inject", "ovx with superframes=inject here, kernel VTEP there"


class InteropFast(OvxFast, Interop):
    """The fast path on the first host, the kernel's bridge and vxlan device on the second."""

    name, label = "interop-fast", "ovx with fast-path=on here, kernel VTEP there"


class Wire(Peer):
    """No switch and no tunnel: the containers have a cable each to each other. What is left is what sending and receiving cost."""

    name, label = "wire", "a veth cable, no switch"

    def build(self):
        self.near, self.far, self.neighbor = (self.lab.namespace(f"{self.name}-{name}") for name in ("c1", "c2", "c3"))
        for other, device, address in ((self.far, "eth0", FAR), (self.neighbor, "eth1", NEIGHBOR)):
            self.near.must(f"ip link add {device} mtu 1450 type veth peer name eth0 mtu 1450 netns {other.name}\n"
                           f"ip addr add {NEAR} peer {address} dev {device} && ip link set {device} up")
            other.must(f"ip addr add {address} peer {NEAR} dev eth0 && ip link set eth0 up")


PEERS = {peer.name: peer for peer in (Kernel, OpenVSwitch, OvxTAP, OvxVeth, OvxFast, OvxNetwork, Interop, Inject, InteropInject, InteropFast, Wire)}
# Who is only measured when named.
EXTRAS = ("ovx-veth", "ovx-fast", "inject", "interop-inject")


def wait_until(what, condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failure(f"waited {seconds} s in vain until {what}")
        time.sleep(0.02)
