"""TCP of a container through a gateway with NAT to the outside: ovx-gatewayd's router, beside Docker's bridge and MASQUERADE."""

import json
import pathlib

import docker
from lab import Process
from measure import PORT, congestion_control
from peers import wait_until
from switch import Switch

OUTSIDE = "203.0.113.254"


class Site:
    """A host with a container, and the outside that it has an uplink to; `place` enters the container's network."""

    name = label = ""

    def __init__(self, lab):
        self.lab = lab
        self.host, self.outside = lab.namespace(f"{self.name}-host"), lab.namespace(f"{self.name}-out")
        self.host.must(f"""
            ip link add wan type veth peer name lan netns {self.outside.name}
            ip addr add 203.0.113.1/24 dev wan && ip link set wan up
            ip route add default via {OUTSIDE}""")
        self.outside.must(f"ip addr add {OUTSIDE}/24 dev lan && ip link set lan up")

    def inside(self, argv, seconds):
        process = Process([*self.place, *map(str, argv)])
        self.lab.processes.append(process)
        return process.finish(seconds)

    def wait_for_outside(self):
        self.inside(["sh", "-c", f"for i in $(seq 100); do ping -c 1 -W 0.2 {OUTSIDE} >/dev/null && exit; done; exit 1"], 60)

    def stream(self, back, seconds):
        """Gb/s at the receiver of one stream that the container begins: to the outside, or from there."""
        server = self.outside.start(["iperf3", "-s", "-1", "-p", PORT, "--forceflush"])
        server.expect("listening", 5)
        text = self.inside(["iperf3", "-J", "-c", OUTSIDE, "-p", PORT, "-t", seconds, "-C", congestion_control(),
                            *(["-R"] if back else [])], seconds + 15)
        server.kill()
        return json.loads(text)["end"]["sum_received"]["bits_per_second"] / 1e9

    def close(self):
        pass


class DockerBridge(Site):
    name, label = "nat-docker", "Docker's bridge, MASQUERADE"

    def __init__(self, lab, ovx):
        super().__init__(lab)
        self.docker = docker.Docker(lab, self.host)
        try:
            self.docker("network", "create", "-d", "bridge", "--subnet", "172.17.42.0/24", "net")
            self.docker("run", "-d", "--name", "web", "--network", "net", "busybox", "/bin/sleep", "100000")
            self.place = self.docker.namespace("web")
            self.wait_for_outside()
        except BaseException:
            self.docker.stop()
            raise

    def close(self):
        self.docker.stop()


class Router(Site):
    """A network with a gateway and `nat=masquerade`."""

    kind, settings = "tap", ""

    def __init__(self, lab, ovx):
        super().__init__(lab)
        self.container = lab.namespace(f"{self.name}-c")
        self.place = ["nsenter", f"--net=/run/netns/{self.container.name}"]
        self.switch = Switch(lab, self.host, ovx)
        self.routers = f"{lab.prefix}-router-{self.name}-"
        # `ip netns exec` would keep the names that it makes to itself.
        lab.processes.append(Process(
            ["nsenter", f"--net=/run/netns/{self.host.name}", str(ovx / "ovx-gatewayd"), "--rundir", str(self.switch.rundir),
             "--namespace-prefix", self.routers], log=str(self.switch.rundir / "gatewayd.log")))
        self.switch.control(f"set switch . {self.settings} local_ip=203.0.113.1")
        self.switch.control("add-net red vni=100 subnet=172.17.42.0/24 gateway=172.17.42.1 nat=masquerade")
        self.switch.control(f"attach red {self.container.name} eth0 kind={self.kind}")
        self.wait_for_outside()

    def close(self):
        self.switch.control(f"detach {self.container.name} eth0")
        self.switch.control("del-net red")
        wait_until("the router is gone", lambda: not list(pathlib.Path("/run/netns").glob(self.routers + "*")))


class Tap(Router):
    name, label = "nat-tap", "ovx, TAP"


class Veth(Router):
    name, label, kind = "nat-veth", "ovx, veth", "veth"


class Fast(Veth):
    name, label, settings = "nat-fast", "ovx, veth, fast path", "other_config:fast-path=on"


SITES = (DockerBridge, Tap, Veth, Fast)
