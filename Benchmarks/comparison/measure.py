"""The measurements: what is sent between containers, and what is read off."""

import json
import os
import time

from lab import Failure
from peers import FAR, NEIGHBOR

PORT = 5201
TICK = os.sysconf("SC_CLK_TCK")
CORES = os.cpu_count()
# Sizes of 7 : 4 : 1, in turn; the payloads of what is known as simple IMIX, as far as they fit.
MIX = [18, 548, 18, 18, 548, 18, 1400, 18, 548, 18, 548, 18]


class Meter:
    """The machine's CPU time between two instants: all that was not idle, less what strangers' processes spent.

    Softirqs belong to nobody and are counted: they are half of the work. Idle time is measured by the kernel, to the
    microsecond; what it calls user, system and softirq time are samples taken at timer ticks, which miss most of what is
    short and begins at a tick, as all paced work does.
    """

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        self._before = (time.monotonic(), *_cpu_times())

    def stop(self):
        now = (time.monotonic(), *_cpu_times())
        elapsed, unused, strangers = (after - before for after, before in zip(now, self._before))
        self.seconds = max(elapsed * CORES - unused - strangers, 0)
        self.disturbance = max(strangers, 0) / elapsed / CORES


def _cpu_times():
    """Seconds of the cores that were idle or not this machine's, and those of processes that are not this run's."""
    with open("/proc/stat") as file:
        _user, _nice, _system, idle, wait, _irq, _softirq, stolen = map(int, file.readline().split()[1:9])
    parents, times = {}, {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        parents[int(pid)] = int(fields[1])
        # With the children it has waited for: what a compiler used stays in the sum when it ends.
        times[int(pid)] = sum(map(int, fields[11:15]))
    ours = {os.getpid(), 2}  # And the kernel's threads: ksoftirqd works for us.
    def is_ours(pid):
        chain = []
        while pid and pid not in ours:
            chain.append(pid)
            pid = parents.get(pid, 0)
        if pid:
            ours.update(chain)
        return bool(pid)
    strangers = sum(ticks for pid, ticks in times.items() if not is_ours(pid))
    return (idle + wait + stolen) / TICK, strangers / TICK


def congestion_control():
    """What TCP in bulk is sent with, whatever the machine's own setting is: a namespace inherits that."""
    with open("/proc/sys/net/ipv4/tcp_available_congestion_control") as file:
        return "bbr" if "bbr" in file.read().split() else "cubic"


class TCP:
    """One or more streams of iperf3. Result: Gb/s at the receiver, CPU seconds per gigabyte, retransmits."""

    many_flows = False

    def __init__(self, streams=1, way="to", local=False, limit=None, congestion=congestion_control()):
        self.streams, self.way, self.local, self.limit, self.congestion = streams, way, local, limit, congestion

    def run(self, peer, seconds):
        address, receiver = (NEIGHBOR, peer.neighbor) if self.local else (FAR, peer.far)
        server = receiver.start(["iperf3", "-s", "-1", "-B", address, "-p", PORT, "--forceflush"])
        try:
            server.expect("listening", 5)
            client = ["iperf3", "-J", "-c", address, "-p", PORT, "-t", max(round(seconds), 1), "-P", self.streams,
                      "-C", self.congestion]
            client += {"to": [], "from": ["-R"], "both": ["--bidir"]}[self.way]
            client += ["-b", self.limit] if self.limit else []
            with Meter() as meter:
                process = peer.near.start(client)
                text = process.finish(seconds + 15)
        finally:
            server.kill()
        end = json.loads(text)["end"]
        sums = [(end["sum_sent"], end["sum_received"])]
        if self.way == "both":
            sums.append((end["sum_sent_bidir_reverse"], end["sum_received_bidir_reverse"]))
        received = sum(r["bytes"] for _, r in sums)
        if received == 0:
            raise Failure("no byte arrived")
        return {
            "gbps": sum(r["bits_per_second"] for _, r in sums) / 1e9,
            "retransmits_per_gb": sum(s.get("retransmits", 0) for s, _ in sums) / (received / 1e9),
            "cpu_per_gb": meter.seconds / (received / 1e9),
        }, meter


class Datagrams:
    """A sender that never waits. Result: millions per second that the receiving program got, CPU seconds per million."""

    WARMUP = 0.3

    def __init__(self, sizes, flows=1, rate=0):
        self.sizes, self.flows, self.rate = sizes, flows, rate
        self.many_flows = flows > 1

    def run(self, peer, seconds):
        traffic = peer.programs.traffic
        meter = Meter()
        sink = peer.far.start([traffic, "sink", PORT, self.WARMUP, seconds])
        sink.expect("ready", 5)
        blast = peer.near.start(
            [traffic, "blast", FAR, PORT, seconds + self.WARMUP + 0.3, self.flows, self.rate, *self.sizes])
        edge = sink.line(self.WARMUP + 8)
        meter.start()
        if edge == "begin":
            sink.expect("end", seconds + 8)
        meter.stop()
        result = json.loads(sink.finish(10))
        blast.finish(seconds + 10)
        if result["received"] == 0:
            raise Failure("no datagram arrived")
        return {
            "mpps": result["received"] / result["seconds"] / 1e6,
            "loss": 1 - result["received"] / max(result["offered"], 1),
            "reordered": result["reordered"] / result["received"],
            "cpu_per_mp": meter.seconds / (result["received"] / 1e6),
        }, meter


class RoundTrip:
    """Datagrams, or bytes of a TCP connection, there and back, one question at a time. Result: microseconds at the median and the 99th percentile.

    The two programs have a core each, as on two machines: on one core a wake costs the tenth part of one across, and
    which of them it is would be the scheduler's mood.
    """

    many_flows = False

    def __init__(self, gap=0, loaded=False, tcp=False):
        self.gap, self.loaded = gap, loaded
        self.prefix = "tcp-" if tcp else ""

    def run(self, peer, seconds):
        traffic = peer.programs.traffic
        echo = peer.far.start([*on_core(1), traffic, f"{self.prefix}echo", PORT + 1])
        load = server = None
        try:
            echo.expect("ready", 5)
            if self.loaded:
                server = peer.far.start(["iperf3", "-s", "-1", "-B", FAR, "-p", PORT, "--forceflush"])
                server.expect("listening", 5)
                load = peer.near.start(["iperf3", "-J", "-c", FAR, "-p", PORT, "-t", round(seconds) + 1,
                                        "-C", congestion_control()])
                time.sleep(0.5)
            with Meter() as meter:
                ping = peer.near.start([*on_core(0), traffic, f"{self.prefix}ping", FAR, PORT + 1, seconds, self.gap, 18])
                result = json.loads(ping.finish(seconds + 10))
            if load:
                load.finish(15)
        finally:
            for process in (load, server, echo):
                if process:
                    process.kill()
        if result["samples"] == 0:
            raise Failure("no answer came back")
        return {key: result[key] for key in ("p50", "p90", "p99", "p999", "samples", "lost")}, meter


class Idle:
    """Nothing is sent. Result: resident memory of one host's daemons in MiB, and what they take of a core, in percent."""

    many_flows = False

    def run(self, peer, seconds):
        daemons = peer.daemons[:len(peer.daemons) // len(peer.hosts)]
        time.sleep(0.2)
        with Meter() as meter:
            before = sum(map(self._ticks, daemons))
            time.sleep(seconds)
            ticks = sum(map(self._ticks, daemons)) - before
        return {"mib": sum(map(self._resident, daemons)) / 2**20, "core": ticks / TICK / seconds}, meter

    @staticmethod
    def _ticks(daemon):
        with open(f"/proc/{daemon.pid}/stat", "rb") as file:
            return sum(map(int, file.read().rpartition(b")")[2].split()[11:13]))

    @staticmethod
    def _resident(daemon):
        with open(f"/proc/{daemon.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def on_core(number):
    return ["taskset", "-c", number] if CORES > 1 else []


MEASUREMENTS = {
    "tcp1": TCP(),
    "tcp1r": TCP(way="from"),
    "tcp4": TCP(4),
    "tcp4r": TCP(4, way="from"),
    "tcp1both": TCP(way="both"),
    "tcp1reno": TCP(congestion="reno"),
    "tcp4reno": TCP(4, congestion="reno"),
    "local": TCP(local=True),
    "udp18": Datagrams([18]),
    "udp18x16": Datagrams([18], 16),
    "udp300": Datagrams([300]),
    "udp300x16": Datagrams([300], 16),
    "udp1400": Datagrams([1400]),
    "udp1400x16": Datagrams([1400], 16),
    "udpmix": Datagrams(MIX),
    "udpmixx16": Datagrams(MIX, 16),
    "rtt": RoundTrip(),
    "rttsparse": RoundTrip(gap=2000),
    "rttload": RoundTrip(loaded=True),
    "tcprr": RoundTrip(tcp=True),
    "tcprrload": RoundTrip(loaded=True, tcp=True),
    "idle": Idle(),
    "cputcp": TCP(limit="500M"),
    "cpuudp": Datagrams([18], rate=40_000),
}
