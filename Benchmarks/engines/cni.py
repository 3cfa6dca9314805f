"""CNI: ADD and DEL by ovx-cni and by CNI's `bridge`, one at a time and many at once."""

import json
import os
import pathlib
import re
import subprocess
import time

import programs
from lab import Failure

PLUGINS = pathlib.Path("/usr/lib/cni")


class Peer:
    """A plugin with its configuration, and the host that it works on."""

    def __init__(self, host, name, plugin, configuration, gateway):
        self.host, self.name, self.plugin, self.gateway = host, name, plugin, gateway
        network = re.sub("[^a-z]+", "-", name.lower())
        self.configuration = json.dumps({"cniVersion": "1.0.0", "name": network, **configuration}).encode()
        self.path = f"{plugin.parent}:{PLUGINS}"

    def start(self, verb, container):
        """Begins a call on the host."""
        environment = {
            **os.environ, "CNI_COMMAND": verb, "CNI_CONTAINERID": container.short, "CNI_IFNAME": "eth0",
            "CNI_NETNS": f"/run/netns/{container.name}", "CNI_PATH": self.path}
        # A runtime calls plugins as they are; nsenter's own start is the same for each of them.
        call = subprocess.Popen(["nsenter", f"--net=/run/netns/{self.host.name}", str(self.plugin)], env=environment,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        call.stdin.write(self.configuration)
        call.stdin.close()
        call.stdin = None
        return call

    def finish(self, call, verb):
        output, errors = call.communicate(timeout=60)
        if call.returncode != 0:
            raise Failure(f"{self.name} {verb}: {(output + errors).decode(errors='replace').strip()}")

    def timed(self, verb, container):
        """Milliseconds that a call takes."""
        begin = time.monotonic()
        self.finish(self.start(verb, container), verb)
        return (time.monotonic() - begin) * 1000

    def burst(self, containers):
        """Milliseconds from the first ADD of several at once to the last first answered ping."""
        begin = time.monotonic()
        calls = [(self.start("ADD", container), container) for container in containers]
        pings = []
        for call, container in calls:
            self.finish(call, "ADD")
            pings.append(subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{container.name}", "sh", "-c",
                 f"until ping -c1 -W1 {self.gateway} >/dev/null 2>&1; do sleep 0.01; done"]))
        for ping in pings:
            if ping.wait(timeout=60) != 0:
                raise Failure(f"{self.name}: a container's ping is not answered")
        took = (time.monotonic() - begin) * 1000
        for call, container in [(self.start("DEL", container), container) for container in containers]:
            self.finish(call, "DEL")
        return took


def packaged_plugin(lab, ovx):
    """ovx-cni as packages and images have it, linked with no library; of programs that were not built here, theirs."""
    if not (ovx / "ovx-cni.product").exists():
        return ovx / "ovx-cni"
    output = lab.directory / "plugin" / "ovx-cni"
    output.parent.mkdir()
    programs.run([programs.ROOT / "deploy" / "packaging" / "plugin", ovx, output], "linking the plugin")
    return output


def peers(lab, switch):
    """`bridge`, and ovx-cni with a TAP and with a veth, with a network's addresses and with host-local's."""

    def host_local(subnet):
        return {"type": "host-local", "dataDir": str(lab.directory / "leases"), "ranges": [[{"subnet": subnet}]]}

    red = switch.network("red", 100, 1, "range=10.1.1.0-10.1.19.255")
    # Neither what the network hands out nor what host-local does is the other one's.
    switch.host.must(f"ip addr add 10.2.0.1/16 dev {red.port}")
    own = {"type": "ovx-cni", "rundir": str(switch.rundir)}
    in_network = {**own, "network": "red"}
    on_bridge = {**own, "bridge": "br0", "tag": red.tag, "ipam": host_local("10.2.0.0/16")}
    found = [Peer(switch.host, "bridge", PLUGINS / "bridge", {
        "type": "bridge", "bridge": "cni0", "isGateway": True, "ipam": host_local("10.3.0.0/16")}, "10.3.0.1")]
    plugin = packaged_plugin(lab, switch.programs)
    return found + [
        Peer(switch.host, "ovx-cni, TAP", plugin, {**in_network, "kind": "tap"}, "10.1.0.1"),
        Peer(switch.host, "ovx-cni, veth", plugin, {**in_network, "kind": "veth"}, "10.1.0.1"),
        Peer(switch.host, "ovx-cni, TAP, host-local", plugin, {**on_bridge, "kind": "tap"}, "10.2.0.1"),
        Peer(switch.host, "ovx-cni, veth, host-local", plugin, {**on_bridge, "kind": "veth"}, "10.2.0.1")]
