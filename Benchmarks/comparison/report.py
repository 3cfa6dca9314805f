"""From repetitions to a table: which rows there are, what they have to reach, and how they read."""

import dataclasses
import statistics

GOAL, MUST, MISSED = "★", "✔", "✘"


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure. `goals` are (must, goal) of the ratio to the kernel by underlay, `ovs_goals` of that to Open vSwitch."""

    key: str
    label: str
    measurement: str
    metric: str
    unit: str
    higher: bool = True
    goals: dict = dataclasses.field(default_factory=dict)
    ovs_goals: dict = dataclasses.field(default_factory=dict)
    # (must, goal) of the figure itself, in the place of a ratio's; None for the kernel's figure.
    own_goal: tuple | None = None
    # The peers in the columns for ovx as it comes, and with the fast path.
    ovx: tuple = ("ovx-tap", "ovx-network")
    pictured: bool = False
    daemons: bool = False
    # Takes two tenants, and no cable, injection or Open vSwitch beside them.
    isolation: bool = False

    @property
    def peers(self):
        """Who has this figure: all, unless it is about one kind of peer, or about daemons, of which the kernel has none."""
        if self.isolation:
            return ("kernel", *self.ovx)
        return (*(() if self.daemons else ("kernel",)), *(() if self.is_interop else ("ovs",)), *self.ovx, *self.extras)

    @property
    def is_interop(self):
        return self.ovx == INTEROP

    @property
    def extras(self):
        """Who else has it: containers on other ports, ovx that injects where there is TCP, and the cable."""
        if self.daemons or self.isolation:
            return ()
        if self.is_interop:
            return ("interop-inject",)
        return ("ovx-veth", "ovx-fast", *(("inject",) if self.measurement.startswith("tcp") else ()), "wire")


INTEROP = ("interop", "interop-fast")


def every(must, goal):
    return {"default": (must, goal), "no-tunnel-tso": (must, goal), "no-gso": (must, goal)}


BULK = {"default": (1.0, 1.3), "no-tunnel-tso": (1.8, 2.2), "no-gso": (1.0, 1.3)}
RENO = {"default": (1.0, 1.3)}
OVS_TCP = {"default": (12, 20)}
# What a victim has beside an attack, of what it has idle: the kernel's own figure is the goal, and
# is beside it.
KEPT, SLOWED = (0.5, None), (3.0, None)
ATTACKS = {
    "macs": "random source MACs", "broadcast": "broadcast", "arp": "ARP requests", "udp": "UDP 60 B, 100 kpps",
    "udpmax": "UDP 60 B, full speed", "remotes": "broadcast, 20 kpps, 10 remotes",
}

ROWS = [
    Row("tcp1", "TCP, 1 stream, there", "tcp1", "gbps", "Gb/s", True, BULK, OVS_TCP, pictured=True),
    Row("tcp1r", "TCP, 1 stream, back", "tcp1r", "gbps", "Gb/s", True, BULK, OVS_TCP),
    Row("tcp4", "TCP, 4 streams, there", "tcp4", "gbps", "Gb/s", True, BULK, OVS_TCP, pictured=True),
    Row("tcp4r", "TCP, 4 streams, back", "tcp4r", "gbps", "Gb/s", True, BULK, OVS_TCP),
    Row("tcp1both", "TCP, both ways at once", "tcp1both", "gbps", "Gb/s"),
    Row("tcp1reno", "TCP, 1 stream, reno", "tcp1reno", "gbps", "Gb/s", True, RENO, OVS_TCP, pictured=True),
    Row("tcp4reno", "TCP, 4 streams, reno", "tcp4reno", "gbps", "Gb/s", True, RENO, OVS_TCP),
    Row("local", "TCP, same host", "local", "gbps", "Gb/s", True, every(1.0, 1.3), pictured=True),
    Row("interop-to", "TCP, to a kernel VTEP", "tcp1", "gbps", "Gb/s", True, every(0.7, 1.0), ovx=INTEROP, pictured=True),
    Row("interop-from", "TCP, from a kernel VTEP", "tcp1r", "gbps", "Gb/s", True, every(0.7, 1.0), ovx=INTEROP,
        pictured=True),
    Row("udp18", "UDP 18 B, 1 flow", "udp18", "mpps", "Mpps", True, every(2.5, 4.0), pictured=True),
    Row("udp18x16", "UDP 18 B, 16 flows", "udp18x16", "mpps", "Mpps", True, every(2.5, 4.0), pictured=True),
    Row("udp300", "UDP 300 B, 1 flow", "udp300", "mpps", "Mpps"),
    Row("udp300x16", "UDP 300 B, 16 flows", "udp300x16", "mpps", "Mpps"),
    Row("udp1400", "UDP 1400 B, 1 flow", "udp1400", "mpps", "Mpps", pictured=True),
    Row("udp1400x16", "UDP 1400 B, 16 flows", "udp1400x16", "mpps", "Mpps"),
    Row("udpmix", "UDP mixed sizes, 1 flow", "udpmix", "mpps", "Mpps", pictured=True),
    Row("udpmixx16", "UDP mixed sizes, 16 flows", "udpmixx16", "mpps", "Mpps"),
    Row("rtt", "round trip, median", "rtt", "p50", "µs", False, every(1.0, 0.4), pictured=True),
    Row("rtt99", "round trip, 99 %", "rtt", "p99", "µs", False, every(1.5, 1.0), pictured=True),
    Row("rttsparse", "… one every 2 ms, median", "rttsparse", "p50", "µs", False),
    Row("rttsparse99", "… one every 2 ms, 99 %", "rttsparse", "p99", "µs", False),
    Row("rttload", "… beside bulk TCP, median", "rttload", "p50", "µs", False, every(1.5, 1.0), pictured=True),
    Row("rttload99", "… beside bulk TCP, 99 %", "rttload", "p99", "µs", False),
    Row("tcprr", "TCP request and answer, median", "tcprr", "p50", "µs", False, every(1.0, 0.4)),
    Row("tcprr99", "TCP request and answer, 99 %", "tcprr", "p99", "µs", False, every(1.5, 1.0)),
    Row("tcprrload", "… beside bulk TCP, median", "tcprrload", "p50", "µs", False, every(1.5, 1.0)),
    Row("cpu-tcp1", "CPU, TCP 1 stream", "tcp1", "cpu_per_gb", "s/GB", False, {"default": (1.0, 0.75)}, pictured=True),
    Row("cpu-tcp4", "CPU, TCP 4 streams", "tcp4", "cpu_per_gb", "s/GB", False, {"default": (1.0, 0.75)}),
    Row("cputcp", "CPU, TCP at 0.5 Gb/s", "cputcp", "cpu_per_gb", "s/GB", False, {"default": (1.0, 0.8)}),
    Row("cpu-udp18", "CPU, UDP 18 B", "udp18", "cpu_per_mp", "s/Mp", False),
    Row("cpu-udp1400", "CPU, UDP 1400 B", "udp1400", "cpu_per_mp", "s/Mp", False),
    Row("cpuudp", "CPU, UDP 18 B at 0.04 Mpps", "cpuudp", "cpu_per_mp", "s/Mp", False),
    Row("retransmits-tcp1", "retransmits, TCP 1 stream", "tcp1", "retransmits_per_gb", "/GB", False),
    Row("retransmits-tcp4", "retransmits, TCP 4 streams", "tcp4", "retransmits_per_gb", "/GB", False),
    Row("loss-udp18", "loss, UDP 18 B, 1 flow", "udp18", "loss", "%", False),
    Row("loss-udp18x16", "loss, UDP 18 B, 16 flows", "udp18x16", "loss", "%", False),
    Row("loss-udp1400", "loss, UDP 1400 B", "udp1400", "loss", "%", False),
    Row("loss-cpuudp", "loss, UDP 18 B at 0.04 Mpps", "cpuudp", "loss", "%", False),
    Row("idle-memory", "memory, a host's idle daemons", "idle", "mib", "MiB", False, daemons=True),
    Row("idle-cpu", "CPU, a host's idle daemons", "idle", "core", "%", False, daemons=True),
    Row("reordered", "reordered, UDP 18 B, 16 flows", "udp18x16", "reordered", "%", False),
    *(row for attack, label in ATTACKS.items() for row in (
        Row(f"beside-{attack}", f"TCP beside {label}", f"beside-{attack}", "gbps", "Gb/s", isolation=True),
        Row(f"kept-{attack}", "… of what is had idle", f"beside-{attack}", "kept", "×", own_goal=KEPT, isolation=True),
        Row(f"rtt-{attack}", f"round trip beside {label}", f"beside-{attack}", "p50", "µs", False, isolation=True),
        Row(f"slowed-{attack}", "… of what it is idle", f"beside-{attack}", "slowed", "×", False, own_goal=SLOWED, isolation=True))),
]


class Figures:
    """The medians of a run's repetitions, read from what the JSON file holds."""

    def __init__(self, run):
        self.run = run

    @property
    def underlays(self):
        return list(self.run["results"])

    def rows(self, underlay):
        return [row for row in ROWS if any(self.median(underlay, peer, row) is not None for peer in row.ovx)
                or (not row.is_interop and any(self.median(underlay, peer, row) is not None for peer in ("kernel", "ovs")))]

    def values(self, underlay, peer, row):
        repetitions = self.run["results"][underlay].get(peer, {}).get(row.measurement, [])
        return [repetition[row.metric] for repetition in repetitions if row.metric in repetition]

    def median(self, underlay, peer, row):
        values = self.values(underlay, peer, row)
        return statistics.median(values) if values else None

    def ratio(self, underlay, peer, base, row):
        ours, theirs = self.median(underlay, peer, row), self.median(underlay, base, row)
        return None if ours is None or not theirs or row.unit in ("%", "/GB") else ours / theirs

    def own_mark(self, underlay, peer, row):
        """Of a figure whose limits are its own."""
        figure, kernel = self.median(underlay, peer, row), self.median(underlay, "kernel", row)
        must, goal = row.own_goal
        goal = goal or kernel
        return "" if figure is None or goal is None else self.mark(figure, row, (must, goal))

    def mark(self, ratio, row, goals):
        if ratio is None or goals is None:
            return ""
        must, goal = goals
        reached = (lambda limit: ratio >= limit) if row.higher else (lambda limit: ratio <= limit)
        return GOAL if reached(goal) else MUST if reached(must) else MISSED

    def errors(self):
        for underlay, peers in self.run["results"].items():
            for peer, measurements in peers.items():
                for measurement, repetitions in measurements.items():
                    for repetition in repetitions:
                        if "error" in repetition:
                            yield f"{underlay}, {peer}, {measurement}: {repetition['error']}"


def number(value, row):
    if value is None:
        return "–"
    if row.unit == "%":
        value *= 100
        return f"{value:.1f}" if value >= 0.05 or value == 0 else f"{value:.2g}"
    if value == 0:
        return "0"
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def ratio_text(ratio):
    return "–" if ratio is None else f"{ratio:.2f}" if ratio < 9.995 else f"{ratio:.1f}"


def cells(figures, underlay, row):
    """The columns of a row: four ratios with their marks, must and goal, four medians."""
    goals, ovs_goals = row.goals.get(underlay), row.ovs_goals.get(underlay)
    ratios = []
    for base, limits in (("kernel", goals), ("ovs", ovs_goals)):
        for peer in row.ovx:
            ratio = figures.ratio(underlay, peer, base, row) if base in row.peers else None
            mark = figures.mark(ratio, row, limits)
            if row.own_goal and base == "kernel":
                mark = figures.own_mark(underlay, peer, row)
            ratios.append((ratio_text(ratio), mark))
    limits = [f"{goals[0]:g}", f"{goals[1]:g}"] if goals else [f"{row.own_goal[0]:g} ×", "kernel's"] if row.own_goal else ["", ""]
    peers = ["kernel", "ovs", *row.ovx]
    medians = [number(figures.median(underlay, peer, row), row) if peer in row.peers else "" for peer in peers]
    return ratios, limits, medians


EXTRA_COLUMNS = ("cable", "kernel ÷ cable", "ovx ÷ cable", "fast path ÷ cable")


def extra_cells(figures, underlay, row):
    """What no switch at all has, and how near to it the switches come; None where it was not measured."""
    cable = figures.median(underlay, "wire", row)
    if cable is None or row.is_interop:
        return None
    return [number(cable, row), *(ratio_text(figures.ratio(underlay, peer, "wire", row)) for peer in ("kernel", *row.ovx))]


def text_table(figures, colour):
    dim, bold, plain = ("\033[2m", "\033[1m", "\033[0m") if colour else ("", "", "")
    tints = {GOAL: "\033[32m", MUST: "", MISSED: "\033[31m", "": ""} if colour else dict.fromkeys((GOAL, MUST, MISSED, ""), "")
    lines = []
    for underlay in figures.underlays:
        lines += ["", f"{bold}{underlay:<31}   ovx ÷ kernel        ovx ÷ OVS{plain}       must  goal   "
                      f"{dim}medians: kernel      OVS      ovx     fast{plain}",
                  f"{'':<31}      ovx    fast       ovx    fast"]
        for row in figures.rows(underlay):
            ratios, limits, medians = cells(figures, underlay, row)
            columns = "".join(f"{tints[mark]}{text:>7} {mark or ' '}{plain}" for text, mark in ratios[:2])
            columns += "  " + "".join(f"{tints[mark]}{text:>6} {mark or ' '}{plain}" for text, mark in ratios[2:])
            arrow = "" if row.higher else " ↓"
            lines.append(f"{row.label + arrow:<31}{columns}  {limits[0]:>5} {limits[1]:>5}   {dim}"
                         + "".join(f"{m:>9}" for m in (f"{medians[0]:>15}", *medians[1:])) + f" {row.unit}{plain}")
        extras = [(row, extra) for row in figures.rows(underlay) if (extra := extra_cells(figures, underlay, row))]
        if extras:
            lines += ["", f"{'':<31}" + "".join(f"{name:>20}" for name in EXTRA_COLUMNS)]
            lines += [f"{row.label + ('' if row.higher else ' ↓'):<31}" + "".join(f"{cell:>20}" for cell in extra)
                      + f" {row.unit}" for row, extra in extras]
    lines += ["", f"{GOAL} reaches the goal   {MUST} what must be   {MISSED} less than that   ↓ lower is better"]
    return "\n".join(lines)


def markdown_table(figures):
    lines = []
    for underlay in figures.underlays:
        lines += [f"### Underlay: {underlay}", "",
                  "| | ovx ÷ kernel | fast path ÷ kernel | ovx ÷ OVS | fast path ÷ OVS | must | goal "
                  "| kernel | OVS | ovx | fast path | |", "|---|" + "---:|" * 10 + "---|"]
        for row in figures.rows(underlay):
            ratios, limits, medians = cells(figures, underlay, row)
            columns = [f"{text} {mark}".strip() for text, mark in ratios] + limits
            columns += [f"<sub>{m}</sub>" if m else "" for m in medians] + [f"<sub>{row.unit}</sub>"]
            lines.append(f"| {row.label}{'' if row.higher else ' ↓'} | " + " | ".join(columns) + " |")
        lines.append("")
        extras = [(row, extra) for row in figures.rows(underlay) if (extra := extra_cells(figures, underlay, row))]
        if extras:
            lines += ["| | " + " | ".join(EXTRA_COLUMNS) + " | |", "|---|" + "---:|" * len(EXTRA_COLUMNS) + "---|"]
            lines += [f"| {row.label}{'' if row.higher else ' ↓'} | " + " | ".join(extra) + f" | <sub>{row.unit}</sub> |"
                      for row, extra in extras]
            lines.append("")
    lines += [f"{GOAL} reaches the goal, {MUST} what must be, {MISSED} less than that; ↓ lower is better.", ""]
    return "\n".join(lines)


def headline(run):
    machine = run["machine"]
    versions = ", ".join(f"{name} {value}" for name, value in run["versions"].items() if value)
    return (f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Linux {machine['kernel']}"
            f"{', ' + machine['virtualisation'] if machine['virtualisation'] else ''}; {run['date']}\n{versions}\n"
            f"TCP in bulk by {run.get('congestion', 'what the machine has')} where no row says another; "
            f"{run['options']['repetitions']} interleaved repetitions of {run['options']['seconds']} s, medians; "
            f"other programs had {run['disturbance'] * 100:.0f} % of the machine")
