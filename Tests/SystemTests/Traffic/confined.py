#!/usr/bin/python3
"""confined.py UNIT PROGRAM ARGUMENT...: runs a program with the system calls and the capabilities that a unit of systemd leaves
it, without systemd: SystemCallFilter= (sets as `systemd-analyze syscall-filter` has them), CapabilityBoundingSet=,
AmbientCapabilities=, UMask=, NoNewPrivileges=yes, PrivateDevices=yes (without /dev/net), ProtectKernelTunables=yes,
ProtectSystem=strict with ReadWritePaths= (and /tmp, where tests have theirs) and ProtectProc=invisible. Where it has User=, the user is nobody: no other is there for sure."""
import ctypes
import errno
import os
import subprocess
import sys

unit, program = sys.argv[1], sys.argv[2:]
settings = {}
for line in open(unit):
    name, separator, value = line.strip().partition("=")
    if separator and not line.startswith("#"):
        settings.setdefault(name, []).append(value)


def expand(name):
    if not name.startswith("@"):
        return {name}
    listed = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True).stdout
    names = [line.split()[0] for line in listed.splitlines()[1:] if line.strip() and not line.strip().startswith("#")]
    return set().union(*map(expand, names))


allowed = set()
for value in settings.get("SystemCallFilter", []):
    deny, names = value.startswith("~"), value.removeprefix("~").split()
    those = set().union(*map(expand, names))
    allowed = allowed - those if deny else allowed | those
# What systemd allows whatever the list says.
allowed |= expand("@default") | {"execve"}



def capabilities(setting):
    return ",".join("+" + name.removeprefix("CAP_").lower() for value in settings.get(setting, []) for name in value.split())


kept, given = capabilities("CapabilityBoundingSet"), capabilities("AmbientCapabilities")
os.umask(int(settings["UMask"][-1], 8))

seccomp = ctypes.CDLL("libseccomp.so.2")
seccomp.seccomp_init.restype = ctypes.c_void_p
filter = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(0x00050000 | errno.EPERM)))
# Those of setpriv(1), which systemd makes before the filter is there.
for name in allowed | {"capget", "capset", "setresuid", "setresgid"}:
    number = seccomp.seccomp_syscall_resolve_name(name.encode())
    if number >= 0:
        assert seccomp.seccomp_rule_add_array(filter, ctypes.c_uint32(0x7FFF0000), number, 0, None) == 0

libc = ctypes.CDLL(None, use_errno=True)
if any(settings.get(name) for name in ("ProtectProc", "ProtectKernelTunables", "PrivateDevices", "ProtectSystem")):
    # A mount namespace of its own, which hears of the host's mounts: CLONE_NEWNS, MS_SLAVE |
    # MS_REC.
    assert libc.unshare(0x20000) == 0
    assert libc.mount(b"none", b"/", None, 0x80000 | 0x4000, None) == 0
if settings.get("ProtectSystem") == ["strict"]:
    for path in ["/tmp"] + [path.lstrip("-") for value in settings.get("ReadWritePaths", []) for path in value.split()]:
        # MS_BIND | MS_REC
        if os.path.exists(path):
            assert libc.mount(path.encode(), path.encode(), None, 0x1000 | 0x4000, None) == 0
    # MS_REMOUNT | MS_BIND | MS_RDONLY; where / is in a mount of its own as it should be.
    assert libc.mount(None, b"/", None, 0x20 | 0x1000 | 0x1, None) == 0
if settings.get("ProtectProc") == ["invisible"]:
    # MS_NOSUID | MS_NODEV | MS_NOEXEC
    assert libc.mount(b"proc", b"/proc", b"proc", 0xE, b"hidepid=invisible") == 0
if settings.get("ProtectKernelTunables") == ["yes"]:
    # MS_BIND, then MS_REMOUNT | MS_BIND | MS_RDONLY with the flags of before
    assert libc.mount(b"/proc/sys", b"/proc/sys", None, 0x1000, None) == 0
    assert libc.mount(None, b"/proc/sys", None, 0x1000 | 0x20 | 0x1 | 0xE, None) == 0
if settings.get("PrivateDevices") == ["yes"]:
    assert libc.mount(b"none", b"/dev/net", b"tmpfs", 0xE, b"size=0,mode=755") == 0
# Without no_new_privs of its own: setpriv(1) is still to take the capabilities.
seccomp.seccomp_attr_set(filter, 4, 0)
assert seccomp.seccomp_load(filter) == 0
inherited = "-all" + ("," + given if given else "")
rights = ["--bounding-set", "-all" + ("," + kept if kept else ""), "--inh-caps", inherited, "--ambient-caps", inherited]
if "User" in settings:
    rights += ["--reuid", "nobody", "--regid", "nogroup", "--keep-groups"]
os.execvp("setpriv", ["setpriv", *rights, "--no-new-privs", "--", *program])
