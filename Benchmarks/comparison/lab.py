"""Network namespaces, processes in them, and the promise that nothing of either outlives the run."""

import ctypes
import os
import pathlib
import select
import shlex
import shutil
import signal
import subprocess
import tempfile
import time

PREFIX = "ovxbench"
LIBC = ctypes.CDLL(None)

# What is done to eth0 on both ends of the cable. The first is veth as it comes: it passes 64 KB
# tunnel superframes by reference. The second is what most NICs of clouds and virtio have. The third
# has nothing but what GRO gathers.
UNDERLAYS = {
    "default": "",
    "no-tunnel-tso": "tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off",
    "no-gso": "tso off tx-udp-segmentation off tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off gso off"
    " gro on rx-udp-gro-forwarding on",
}


class Failure(Exception):
    """What went wrong, in a sentence."""


# How the scheduler favours each process of the run over those of others (autogroup's nice value;
# not the kernel's own threads, which are in no group).
urgency = 0


def _before_exec():
    # The daemons must not survive a run that was killed; PR_SET_PDEATHSIG is 1.
    LIBC.prctl(1, signal.SIGKILL)
    if urgency:
        with open("/proc/self/autogroup", "w") as file:
            file.write(str(urgency))


class Process:
    """A process in a namespace, whose output can be read line by line with a deadline."""

    def __init__(self, argv, environment=None, log=None, stdin=subprocess.DEVNULL):
        self.argv = argv
        self.log = log
        output = open(log, "wb") if log else subprocess.PIPE
        self.popen = subprocess.Popen(
            argv, stdin=stdin, stdout=output, stderr=subprocess.STDOUT if log else subprocess.PIPE,
            env={**os.environ, **(environment or {})}, preexec_fn=_before_exec, start_new_session=True)
        if log:
            output.close()
        self.pid = self.popen.pid
        self._buffer = b""

    def line(self, seconds):
        """The next line, without its end; None at the end of the output or of the patience."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            patience = deadline - time.monotonic()
            if patience <= 0 or not select.select([self.popen.stdout], [], [], patience)[0]:
                return None
            chunk = os.read(self.popen.stdout.fileno(), 65536)
            if not chunk:
                return None
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode(errors="replace")

    def expect(self, word, seconds):
        """Reads on until a line with the word; gives that line."""
        deadline = time.monotonic() + seconds
        while (line := self.line(deadline - time.monotonic())) is not None:
            if word in line:
                return line
        raise Failure(f"{self.name} did not say '{word}' within {seconds:.0f} s: {self.complaint()}")

    def finish(self, seconds):
        """Everything else that it prints, when it has ended well."""
        try:
            output, errors = self.popen.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure(f"{self.name} was not done after {seconds:.0f} s") from None
        text = (self._buffer + (output or b"")).decode(errors="replace")
        if self.popen.returncode != 0:
            errors = (errors or b"").decode(errors="replace").strip()
            raise Failure(f"{self.name} ended with {self.popen.returncode}: {errors or text.strip()[-400:]}")
        return text

    @property
    def name(self):
        argv = self.argv[4:] if self.argv[:3] == ["ip", "netns", "exec"] else self.argv
        return shlex.join([os.path.basename(argv[0]), *argv[1:4]])

    @property
    def running(self):
        return self.popen.poll() is None

    def complaint(self):
        if self.log:
            return pathlib.Path(self.log).read_text(errors="replace")[-800:].strip()
        self.kill()
        return self.popen.stderr.read().decode(errors="replace").strip()[-400:]

    def kill(self, number=signal.SIGKILL, patience=5):
        """Sends a signal and waits for the end; what does not end is killed."""
        if self.running:
            self.popen.send_signal(number)
            try:
                self.popen.wait(patience)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()


class Namespace:
    """A host, or a container."""

    def __init__(self, lab, name):
        self.lab = lab
        self.short = name
        self.name = f"{lab.prefix}-{name}"

    def start(self, argv, **more):
        process = Process(["ip", "netns", "exec", self.name, *map(str, argv)], **more)
        self.lab.processes.append(process)
        return process

    def must(self, script, environment=None, seconds=30):
        """Runs shell lines that must all succeed; gives what they printed."""
        return self.start(["sh", "-ec", script], environment=environment).finish(seconds)


class Lab:
    """Everything one run makes. Use it as a context: at its end, however it comes, all of it is removed."""

    def __init__(self):
        self.prefix = f"{PREFIX}{os.getpid()}"
        self.namespaces = []
        self.processes = []
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"{self.prefix}-", dir="/tmp"))

    def __enter__(self):
        _sweep()
        return self

    def __exit__(self, *_):
        previous = [(s, signal.signal(s, signal.SIG_IGN)) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        self.clear()
        shutil.rmtree(self.directory, ignore_errors=True)
        for number, handler in previous:
            signal.signal(number, handler)

    def clear(self):
        """Ends all processes, the last first, and removes all namespaces."""
        for process in reversed(self.processes):
            process.kill(signal.SIGTERM, patience=3)
        self.processes.clear()
        for namespace in self.namespaces:
            _remove(namespace.name)
        self.namespaces.clear()

    def remove(self, namespaces, processes):
        for process in reversed(processes):
            process.kill(signal.SIGTERM, patience=3)
        for namespace in namespaces:
            _remove(namespace.name)
            self.namespaces.remove(namespace)

    def forget_ended(self):
        self.processes = [process for process in self.processes if process.running]

    def namespace(self, name):
        namespace = Namespace(self, name)
        result = subprocess.run(["ip", "netns", "add", namespace.name], capture_output=True, text=True)
        if result.returncode != 0:
            raise Failure(f"ip netns add {namespace.name}: {result.stderr.strip()}")
        self.namespaces.append(namespace)
        # Bridges hand frames to iptables by default, which would slow the kernel's side of the
        # comparison.
        namespace.must(
            "ip link set lo up\n"
            "for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $f ] || echo 0 >$f; done")
        return namespace

    def hosts(self, name, underlay):
        """Two hosts joined by a veth, as a crossed cable would."""
        hosts = [self.namespace(f"{name}-h1"), self.namespace(f"{name}-h2")]
        hosts[0].must(f"ip link add eth0 mtu 1500 type veth peer name eth0 mtu 1500 netns {hosts[1].name}")
        for number, host in enumerate(hosts, 1):
            features = UNDERLAYS[underlay]
            if features:
                host.must(f"ethtool -K eth0 {features}")
            host.must(f"ip addr add {underlay_address(number)}/24 dev eth0 && ip link set eth0 up")
        return hosts

    def veth_container(self, name, host, address):
        """A container on a veth; the host's end is called as the container is."""
        container = self.namespace(f"{host.short}-{name}")
        host.must(f"ip link add {name} mtu 1450 type veth peer name eth0 mtu 1450 netns {container.name}\n"
                  f"ip link set {name} up")
        container.must(f"ip addr add {address}/24 dev eth0 && ip link set eth0 up")
        return container


def underlay_address(host):
    return f"192.168.5.{host + 1}"


def _remove(name):
    pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split()
    for pid in pids:
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            pass
    subprocess.run(["ip", "netns", "del", name], capture_output=True)


def _sweep():
    """Removes what a run that was killed has left: namespaces and directories whose process is gone."""
    names = os.listdir("/run/netns") if os.path.isdir("/run/netns") else []
    for name in names:
        owner = name.partition("-")[0].removeprefix(PREFIX)
        if name.startswith(PREFIX) and owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
            _remove(name)
    for directory in pathlib.Path("/tmp").glob(f"{PREFIX}*-*"):
        owner = directory.name.partition("-")[0].removeprefix(PREFIX)
        if owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
            shutil.rmtree(directory, ignore_errors=True)
