"""A victim beside an attacker: what one tenant has left of the network while another one on the same hosts abuses it."""

import json
import time

from lab import Failure
from measure import MEASUREMENTS, PORT, Meter, TCP
from peers import FAR, ROGUE_FAR

# What an attacker does, by name: how it is started in its container. What has a rate has one that a
# tenant may well have.
ATTACKS = {
    "macs": lambda traffic: [traffic, "flood", "eth0", "macs", 0],
    "broadcast": lambda traffic: [traffic, "flood", "eth0", "broadcast", 0],
    "arp": lambda traffic: [traffic, "flood", "eth0", "arp", 0],
    "udp": lambda traffic: [traffic, "blast", ROGUE_FAR, PORT + 3, 60, 1, 100_000, 18],
    "udpmax": lambda traffic: [traffic, "blast", ROGUE_FAR, PORT + 3, 60, 1, 0, 18],
    "remotes": lambda traffic: [traffic, "flood", "eth0", "broadcast", 20_000],
}


class Isolation:
    """A victim's TCP stream, and then its round trips, idle and beside an attack.

    Result: of both the figure beside the attack, and the fraction of the idle one, measured right before.
    """

    many_flows = False

    def __init__(self, attack):
        self.attack = attack

    def run(self, peer, seconds):
        rogue, rogue_far = peer.rogues(remotes=10 if self.attack == "remotes" else 1)
        idle = self._victim(peer, seconds)
        traffic = peer.programs.traffic
        sink = attacker = None
        try:
            if self.attack.startswith("udp"):
                sink = rogue_far.start([traffic, "sink", PORT + 3, 0, 60])
                sink.expect("ready", 5)
            attacker = rogue.start(ATTACKS[self.attack](traffic))
            time.sleep(0.5)
            if not attacker.running:
                raise Failure(f"the attacker ended: {attacker.complaint()}")
            with Meter() as meter:
                beside = self._victim(peer, seconds)
        finally:
            for process in (attacker, sink):
                if process:
                    process.kill()
        time.sleep(0.5)  # What is still queued is nobody else's trouble.
        return {
            "gbps": beside["gbps"], "p50": beside["p50"], "p99": beside["p99"], "lost": beside["lost"],
            "idle_gbps": idle["gbps"], "idle_p50": idle["p50"], "kept": beside["gbps"] / idle["gbps"],
            "slowed": beside["p50"] / idle["p50"] if beside["p50"] else float("inf"),
        }, meter

    def _victim(self, peer, seconds):
        """Gb/s of one stream, and then round trips, one every millisecond."""
        try:
            gbps = TCP().run(peer, seconds)[0]["gbps"]
        except (Failure, KeyError):
            gbps = 0.0  # Not even a connection came about.
        echo = peer.far.start([peer.programs.traffic, "echo", PORT + 1])
        try:
            echo.expect("ready", 5)
            ping = peer.near.start([peer.programs.traffic, "ping", FAR, PORT + 1, seconds, 1000, 18])
            result = json.loads(ping.finish(seconds + 10))
        finally:
            echo.kill()
        return {"gbps": gbps, **{key: result[key] for key in ("p50", "p99", "lost")}}


MEASUREMENTS.update({f"beside-{attack}": Isolation(attack) for attack in ATTACKS})
