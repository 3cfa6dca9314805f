"""Docker: from `docker run` to the first answered ping, on a network of ovx-docker and on one of Docker's own bridge."""

import concurrent.futures
import os
import pathlib
import select
import subprocess
import time

import programs
from lab import Failure, Process
from peers import start_open_vswitch, wait_until

# What works without systemd and without CAP_SYS_RESOURCE, as in the tests.
LIMITS = ["--default-ulimit", "nofile=1024:4096", "--default-ulimit", "nproc=4096:4096"]


class Docker:
    """A dockerd of a host, with images, networks and state of its own; its driver of ovx where it is to have one."""

    def __init__(self, lab, host, ovx=None, rundir=None):
        self.lab, self.host = lab, host
        self.directory = lab.directory / f"docker-{host.short}"
        self.directory.mkdir()
        # A driver's name is the machine's and not the host's alone.
        self.driver = host.name
        self.plugin = pathlib.Path(f"/run/docker/plugins/{self.driver}.sock")
        if ovx:
            self._start("ovx-docker", [ovx / "ovx-docker", "--socket", self.plugin, "--rundir", rundir])
            wait_until("ovx-docker listens", self.plugin.exists)
        directory = self.directory
        self.daemon = self._start("dockerd", [
            "dockerd", "--data-root", directory / "data", "--exec-root", directory / "exec", "--pidfile", directory / "pid",
            "-H", f"unix://{directory}/sock", "--bridge=none", "--userland-proxy=false", "--storage-driver", "vfs", *LIMITS])
        wait_until("dockerd answers", lambda: self.run("info").returncode == 0 or not self.daemon.running, 60)
        if not self.daemon.running:
            raise Failure(f"dockerd has ended: {self.daemon.complaint()}")
        self("import", self._image(), "busybox")

    def _inside(self, argv):
        # `ip netns exec` would hide the control groups that a container runtime needs.
        return ["nsenter", f"--net=/run/netns/{self.host.name}", *map(str, argv)]

    def _start(self, name, argv):
        process = Process(self._inside(argv), log=str(self.directory / f"{name}.log"))
        self.lab.processes.append(process)
        return process

    def _image(self):
        """An archive with busybox in it."""
        busybox = programs.run([programs.ROOT / "deploy" / "find-busybox"], "looking for busybox").strip()
        root, archive = self.directory / "image", self.directory / "image.tar"
        (root / "bin").mkdir(parents=True)
        programs.run(["cp", busybox, root / "bin" / "busybox"], "copying busybox")
        for name in ("sh", "sleep", "ping"):
            (root / "bin" / name).symlink_to("busybox")
        programs.run(["tar", "-C", root, "-cf", archive, "."], "packing an image")
        return archive

    def start(self, *words):
        """Begins a call of the client."""
        return subprocess.Popen(self._inside(["docker", "-H", f"unix://{self.directory}/sock", *words]),
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *words):
        call = self.start(*words)
        call.output, call.errors = call.communicate(timeout=120)
        return call

    def __call__(self, *words):
        """Runs the client, which must succeed; gives what it has printed."""
        call = self.run(*words)
        if call.returncode != 0:
            raise Failure(f"docker {' '.join(map(str, words))}: {call.errors.strip()}")
        return call.output.strip()

    def namespace(self, name):
        """The words by which a program is started in a container's network."""
        return ["nsenter", f"--net=/proc/{self('inspect', '-f', '{{.State.Pid}}', name)}/ns/net"]

    def stop(self):
        """Ends it, and lets go of what it has mounted."""
        names = self.run("ps", "-aq").output.split()
        if names:
            self.run("rm", "-f", *names)
        for process in reversed(self.lab.processes):
            if str(self.directory) in (process.log or ""):
                process.kill(patience=20)
        self.plugin.unlink(missing_ok=True)
        mounts = [line.split()[1] for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((mount for mount in mounts if mount.startswith(str(self.directory))), reverse=True):
            subprocess.run(["umount", mount], capture_output=True)


class Network:
    """A network of Docker, and whom its containers ping."""

    def __init__(self, docker, name, gateway, *options):
        self.docker, self.name, self.gateway = docker, name, gateway
        self.options = ["--network", name, *options]
        self.count = 0

    def burst(self, count):
        """Milliseconds from the first `docker run` of several at once to the last first answered ping.

        The container tells through a pipe of the host's, which costs it nothing.
        """
        docker = self.docker
        pipe = docker.directory / "up"
        if not pipe.exists():
            os.mkfifo(pipe)
        # Open for both, so that it has no end while nobody writes.
        reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        script = f"until ping -c1 -W1 {self.gateway} >/dev/null 2>&1; do sleep 0.01; done; echo >/up; exec sleep 1000"
        numbers = range(self.count + 1, self.count + count + 1)
        self.count += count

        def start(number):
            docker("run", "-d", "--name", f"{self.name}-{number}", *self.options, "-v", f"{pipe}:/up", "busybox", "/bin/sh", "-c",
                   script)
            self.connect(number)

        try:
            with concurrent.futures.ThreadPoolExecutor(count) as pool:
                begin = time.monotonic()
                calls = [pool.submit(start, number) for number in numbers]
                up = 0
                while up < count:
                    if not select.select([reader], [], [], 1)[0]:
                        for call in calls:
                            if call.done():
                                call.result()
                        if time.monotonic() - begin > 120:
                            raise Failure(f"{self.name}: {up} of {count} containers were answered in two minutes")
                        continue
                    up += os.read(reader, 4096).count(b"\n")
                took = (time.monotonic() - begin) * 1000
                for call in calls:
                    call.result()
            return took
        finally:
            os.close(reader)
            for number in numbers:
                self.disconnect(number)
            docker.run("rm", "-f", *(f"{self.name}-{number}" for number in numbers))

    def connect(self, number):
        """What is to be done for a container that has been started."""

    def disconnect(self, number):
        """What is to be done before a container is removed."""


class OVSDocker(Network):
    """Open vSwitch's script: a container without a network, which then gets a veth by some ten calls of programs."""

    BRIDGE = "ovsbr0"

    def __init__(self, docker, ovs):
        super().__init__(docker, "ovs-docker", "10.5.0.1")
        self.options = ["--network", "none"]
        directory = docker.directory / "ovs"
        directory.mkdir()
        vsctl, environment = start_open_vswitch(ovs, docker.host, directory, self._start)
        docker.host.must(f"""
            {vsctl} add-br {self.BRIDGE} -- set bridge {self.BRIDGE} datapath_type=netdev
            ip addr add {self.gateway}/16 dev {self.BRIDGE} && ip link set {self.BRIDGE} up""", environment)
        programs_directory = pathlib.Path(ovs.vsctl).parent
        self.script = programs_directory / "ovs-docker"
        self.environment = {**os.environ, **environment, "DOCKER_HOST": f"unix://{docker.directory}/sock",
                            "PATH": f"{programs_directory}:{os.environ['PATH']}"}

    def _start(self, argv, environment):
        name = os.path.basename(argv[0])
        self.docker.lab.processes.append(
            self.docker.host.start(argv, environment=environment, log=str(self.docker.directory / f"{name}.log")))

    def _call(self, *words):
        return subprocess.run(["nsenter", f"--net=/run/netns/{self.docker.host.name}", str(self.script), *words],
                              env=self.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)

    def connect(self, number):
        call = self._call("add-port", self.BRIDGE, "eth0", f"{self.name}-{number}",
                          f"--ipaddress=10.5.{1 + number // 250}.{1 + number % 250}/16")
        if call.returncode != 0:
            raise Failure(f"ovs-docker add-port: {call.stderr.strip()}")

    def disconnect(self, number):
        self._call("del-port", self.BRIDGE, "eth0", f"{self.name}-{number}")


def networks(docker, switched, ovs):
    """Docker's bridge, a network of the driver for each of the switch's, and Open vSwitch; all name their subnets.

    Without, Docker takes none that the host has a route to, and asks for another one for ever.
    """
    docker("network", "create", "-d", "bridge", "--subnet", "10.4.0.0/16", "--gateway", "10.4.0.1", "docker-bridge")
    found = [Network(docker, "docker-bridge", "10.4.0.1")]
    for name, network, gateway, subnet, options in switched:
        docker("network", "create", "-d", docker.driver, "-o", f"network={network}", *options, "--ipam-driver", docker.driver,
               "--ipam-opt", f"network={network}", "--subnet", subnet, name)
        found.append(Network(docker, name, gateway))
    if ovs:
        found.append(OVSDocker(docker, ovs))
    return found
