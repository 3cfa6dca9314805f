"""The programs that take part: ovx from this checkout, Open vSwitch from Debian, and the traffic's own."""

import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys

from lab import Failure

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = ROOT / ".build" / "comparison"


@dataclasses.dataclass
class OpenVSwitchPrograms:
    vswitchd: str
    vsctl: str
    ovsdb_server: str
    ovsdb_tool: str
    schema: str
    environment: dict


@dataclasses.dataclass
class Programs:
    traffic: pathlib.Path
    ovx: pathlib.Path | None
    ovx_arguments: list
    ovs: OpenVSwitchPrograms | None


def prepare(peers, binaries, ovx_arguments):
    run([ROOT / "deploy" / "install-dependencies", "test"], "installing what the traffic needs")
    CACHE.mkdir(parents=True, exist_ok=True)
    ovx = None
    if peers - {"kernel", "ovs", "wire"}:
        ovx = pathlib.Path(binaries).resolve() if binaries else build_ovx()
        for name in ("ovx-vswitchd", "ovx-ctl"):
            if not os.access(ovx / name, os.X_OK):
                raise Failure(f"{ovx} holds no {name}; say with --bin where it is, or leave --bin out to build it")
    return Programs(compile_traffic(), ovx, ovx_arguments, find_open_vswitch() if "ovs" in peers else None)


def run(argv, what):
    result = subprocess.run([str(a) for a in argv], capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=ROOT)
    if result.returncode != 0:
        raise Failure(f"{what} failed ({' '.join(map(str, argv))}):\n{(result.stdout + result.stderr)[-2000:]}")
    return result.stdout


def build_ovx():
    swift = run([ROOT / "deploy" / "find-swift"], "looking for Swift").strip()
    print("Building ovx (release)", file=sys.stderr)
    run([f"{swift}/swift", "build", "-c", "release", "--static-swift-stdlib"], "building ovx")
    return ROOT / ".build" / "release"


def compile_traffic():
    source, program = pathlib.Path(__file__).with_name("traffic.c"), CACHE / "traffic"
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    compiler = next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if not compiler:
        compiler = f"{run([ROOT / 'deploy' / 'find-swift'], 'looking for a C compiler').strip()}/clang"
    run([compiler, "-O2", "-Wall", "-Wextra", "-o", program, source, "-lm"], "compiling traffic.c")
    return program


def find_open_vswitch():
    """Of the machine if it is installed; else Debian's packages, unpacked beside the build and not installed."""
    root = run([ROOT / "deploy" / "find-openvswitch"], "fetching Open vSwitch").strip()
    schema = "/usr/share/openvswitch/vswitch.ovsschema"
    if root == "/":
        names = ["ovs-vswitchd", "ovs-vsctl", "ovsdb-server", "ovsdb-tool"]
        return OpenVSwitchPrograms(*map(shutil.which, names), schema, {})
    libraries = sorted({str(path.parent) for path in pathlib.Path(root).rglob("*.so*")})
    return OpenVSwitchPrograms(
        f"{root}/usr/lib/openvswitch-switch/ovs-vswitchd", f"{root}/usr/bin/ovs-vsctl", f"{root}/usr/sbin/ovsdb-server",
        f"{root}/usr/bin/ovsdb-tool", f"{root}{schema}", {"LD_LIBRARY_PATH": ":".join(libraries)})


def describe(programs):
    """Versions of what takes part."""
    versions = {"iperf3": run(["iperf3", "--version"], "asking iperf3").split("\n")[0]}
    if programs.ovs:
        environment = {**os.environ, **programs.ovs.environment}
        text = subprocess.run([programs.ovs.vswitchd, "--version"], capture_output=True, text=True, env=environment)
        versions["ovs"] = text.stdout.split("\n")[0]
    if programs.ovx:
        text = subprocess.run([f"{programs.ovx}/ovx-vswitchd", "--version"], capture_output=True, text=True)
        versions["ovx"] = text.stdout.strip().split("\n")[0]
        commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True)
        versions["ovx_commit"] = commit.stdout.strip()
        versions["ovx_arguments"] = " ".join(programs.ovx_arguments)
    return versions
