import Foundation
import Glibc
import Testing

extension SystemTests {
  /// What a daemon that somebody has taken over could still do: tried from inside, by a library
  /// that is loaded with it.
  @Suite struct ConfinementTests {
    /// In a thread of the daemon's, once the filter is in force: does what a switch need not do,
    /// and tells how it went.
    static let intruder = #"""
      #define _GNU_SOURCE
      #include <errno.h>
      #include <fcntl.h>
      #include <pthread.h>
      #include <sched.h>
      #include <signal.h>
      #include <stdio.h>
      #include <stdlib.h>
      #include <string.h>
      #include <sys/mman.h>
      #include <sys/mount.h>
      #include <sys/ptrace.h>
      #include <sys/prctl.h>
      #include <sys/socket.h>
      #include <sys/stat.h>
      #include <sys/syscall.h>
      #include <sys/wait.h>
      #include <unistd.h>

      static FILE *report;
      static void tell(const char *what, long result) {
        fprintf(report, "%s %s\n", what, result >= 0 ? "done" : strerrorname_np(errno));
        fflush(report);
      }

      /* Asks the broker to start a program. */
      static void start(const char *path, const char *word, const char *option, const char *name) {
        const char *words[] = {"run", path, word, option, "container", "-f", "{{.State.Pid}} {{.Id}}", name};
        char request[600];
        size_t size = 0;
        for (size_t number = 0; number < sizeof words / sizeof *words; number++)
          size += sprintf(request + size, "%s", words[number]) + 1;
        for (int fd = 3; fd < 100; fd++) {
          int type = 0; socklen_t length = sizeof type;
          if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0 || type != SOCK_SEQPACKET) continue;
          int ends[2];
          socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends);
          int null = open("/dev/null", O_RDWR);
          int rights[] = {null, null, ends[1]};
          char control[CMSG_SPACE(sizeof rights)];
          struct iovec part = {request, size};
          struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
          struct cmsghdr *header = CMSG_FIRSTHDR(&message);
          header->cmsg_level = SOL_SOCKET;
          header->cmsg_type = SCM_RIGHTS;
          header->cmsg_len = CMSG_LEN(sizeof rights);
          memcpy(CMSG_DATA(header), rights, sizeof rights);
          sendmsg(fd, &message, 0);
          close(ends[1]);
          int result = -1;
          recv(ends[0], &result, sizeof result, 0);
          fprintf(report, "start %s %s %s %s %d\n", path, word, option, name, result);
          fflush(report);
          return;
        }
      }

      static void *intrude(void *context) {
        for (;;) {
          char status[8192] = "";
          FILE *file = fopen("/proc/thread-self/status", "r");
          if (file) { (void)!fread(status, 1, sizeof status - 1, file); fclose(file); }
          if (strstr(status, "Seccomp:\t2")) break;
          usleep(20000);
        }
        tell("fork", syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
        tell("execve", execl("/bin/true", "true", NULL));
        tell("ptrace", ptrace(PTRACE_TRACEME, 0, 0, 0));
        tell("kill", kill(1, 0));
        tell("unshare", unshare(CLONE_NEWNET));
        tell("setns", setns(open("/proc/self/ns/mnt", O_RDONLY), CLONE_NEWNS));
        tell("mount", mount("none", "/mnt", "tmpfs", 0, NULL));
        tell("chroot", chroot("/"));
        tell("setuid", syscall(SYS_setuid, 0));
        tell("mknod", mknod("/tmp/never", 0600 | 020000, 0));
        tell("bpf", syscall(SYS_bpf, 8 /* BPF_PROG_ATTACH */, 0, 0));
        tell("module", syscall(SYS_init_module, 0, 0, ""));
        tell("handle", syscall(SYS_open_by_handle_at, -1, 0, 0));
        tell("keyctl", syscall(SYS_keyctl, 0, 0));
        tell("foreign", socket(AF_VSOCK, SOCK_STREAM, 0));
        tell("code", mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0);
        tell("dumpable", prctl(PR_SET_DUMPABLE, 1));
        tell("unknown", syscall(1000));
        tell("socket", socket(AF_INET, SOCK_DGRAM, 0));
        tell("getpid", getpid());
        start("/bin/sh", "inspect", "--type", "web");
        start(getenv("FAKE_DOCKER"), "run", "--type", "web");
        start(getenv("FAKE_DOCKER"), "inspect", "--root", "web");
        start(getenv("FAKE_DOCKER"), "inspect", "--type", "--web");
        start(getenv("FAKE_DOCKER"), "inspect", "--type", "web");
        fprintf(report, "end\n");
        fflush(report);
        return NULL;
      }

      static void begin(void) __attribute__((constructor));
      static void begin(void) {
        char name[64] = "";
        FILE *file = fopen("/proc/self/comm", "r");
        if (file) { (void)!fread(name, 1, sizeof name - 1, file); fclose(file); }
        if (strncmp(name, "ovx-vswitchd", 12) != 0) return;
        report = fopen(getenv("INTRUDER_REPORT"), "w");
        pthread_t thread;
        pthread_create(&thread, NULL, intrude, NULL);
      }
      """#

    /// Everything that it tries is refused and named in the log; the daemon goes on.
    @Test func anIntruder() throws {
      try Lab.run { lab in
        lab.expectLog("was refused (EPERM)")
        let host = try lab.namespace("host1")
        let directory = host.rundir
        try Self.intruder.write(
          toFile: "\(directory)/intruder.c", atomically: true, encoding: .utf8)
        let toolchain = try Command(["\(Lab.packageRoot.path)/deploy/find-swift"]).finish(
          seconds: 20
        )
        .standardOutput.trimmingCharacters(in: .whitespacesAndNewlines)
        try host.must(
          """
          PATH="\(toolchain):$PATH" clang -w -shared -fPIC -pthread -o \(directory)/intruder.so \(directory)/intruder.c
          mkdir \(directory)/bin
          printf '#!/bin/sh\\necho $1 >> \(directory)/started\\n' > \(directory)/bin/docker
          chmod 755 \(directory)/bin/docker
          """)
        let daemon = try host.start(
          """
          export PATH=\(directory)/bin:$PATH FAKE_DOCKER=\(directory)/bin/docker INTRUDER_REPORT=\(directory)/report
          LD_PRELOAD=\(directory)/intruder.so exec ovx-vswitchd --rundir \(directory)
          """)
        try eventually("it has tried everything") {
          try host.run("grep -qx end \(directory)/report").succeeded
        }
        let report = try host.must("cat \(directory)/report")
        for attempt in [
          "fork", "execve", "ptrace", "kill", "unshare", "setns", "mount", "chroot", "setuid",
          "mknod", "bpf", "module",
          "handle", "keyctl", "foreign", "code", "dumpable", "unknown",
        ] {
          #expect(
            report.contains("\n\(attempt) EPERM\n") || report.hasPrefix("\(attempt) EPERM\n"),
            "\(report)")
        }
        // What a switch does need.
        for attempt in ["socket", "getpid"] {
          #expect(report.contains("\n\(attempt) done\n"), "\(report)")
        }
        #expect(report.contains("start /bin/sh inspect --type web -1\n"), "\(report)")
        for refused in ["run --type web", "inspect --root web", "inspect --type --web"] {
          #expect(report.contains("docker \(refused) -1\n"), "\(report)")
        }
        #expect(report.contains("docker inspect --type web 0\n"), "\(report)")
        let started = try host.must("cat \(directory)/started").split(separator: "\n")
        #expect(started.contains("inspect") && !started.contains("run"), "\(started)")

        try host.ctl("add-br br0")
        let log = daemon.standardError
        for call in [
          "clone", "execve", "ptrace", "mount", "bpf", "socket", "mmap", "prctl", "setns",
        ] {
          #expect(
            log.components(separatedBy: "the system call \(call) was refused").count == 2,
            "\(call): \(log)")
        }
        try host.ctl("exit")
        #expect(daemon.wait(seconds: 10)?.succeeded == true)
      }
    }

    /// All threads, those of later workers and of questions to containers too.
    @Test func everyThread() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let red = try lab.namespace("red")
        let daemon = try lab.daemon(on: host, arguments: ["--workers", "3"])
        try host.ctl("add-br br0")
        try host.ctl("attach br0 \(red.name) eth0 ip=10.1.1.1/24")
        _ = try host.ctl(["attach", "br0", "no-such-container", "eth0"])
        let pid = daemon.process.pid
        let tasks = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/task")
        #expect(tasks.count >= 5)
        for task in tasks {
          let status = try String(
            contentsOfFile: "/proc/\(pid)/task/\(task)/status", encoding: .utf8)
          #expect(
            status.contains("\nSeccomp:\t2\n") && status.contains("\nNoNewPrivs:\t1\n"), "\(status)"
          )
        }
        try daemon.stop(SIGTERM)
        let without = try lab.daemon(on: host, arguments: ["--no-syscall-filter"])
        let status = try String(
          contentsOfFile: "/proc/\(without.process.pid)/status", encoding: .utf8)
        #expect(status.contains("\nSeccomp:\t0\n"), "\(status)")
        #expect(without.log.contains("--no-syscall-filter"))
      }
    }

    /// The process that starts programs, and what it has started, go with the daemon, however that
    /// goes.
    @Test(arguments: [SIGTERM, SIGKILL])
    func nothingStaysBehind(_ signal: Int32) throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let red = try lab.namespace("red")
        let bin = "\(host.rundir)/bin"
        // One that announces nothing, and one that hangs.
        try host.must(
          """
          mkdir \(bin)
          printf '#!/bin/sh\\necho $$ >> \(host.rundir)/pids\\nexec sleep 600\\n' > \(bin)/docker
          chmod 755 \(bin)/docker
          """)
        let daemon = try lab.daemon(on: host, searchPath: bin)
        try host.ctl("add-br br0")
        try host.ctl("attach br0 \(red.name) eth0")
        let slow = try host.start("exec ovx-ctl -t 1 attach br0 some-container eth0")
        try eventually("docker was asked") {
          try host.run("test -s \(host.rundir)/pids").succeeded
        }
        let (keeper, server) = try broker(of: daemon, on: host)
        // The connection, and its own namespace in the one that serves.
        for (pid, expected) in [
          (keeper, ["0", "1", "2", "3"]), (server, ["0", "1", "2", "3", "4"]),
        ] {
          #expect(try host.must("cat /proc/\(pid)/comm") == "ovx-broker\n")
          let descriptors = try host.must("ls /proc/\(pid)/fd").split(separator: "\n")
          #expect(descriptors.map(String.init) == expected)
        }
        _ = slow.wait(seconds: 10)
        try daemon.stop(signal)
        for pid in [keeper, server] {
          try eventually("it has gone") { try !host.run("kill -0 \(pid)").succeeded }
        }
        let pids = try host.must("cat \(host.rundir)/pids").split(separator: "\n")
        try eventually("what it started has gone") {
          try pids.allSatisfy { pid in try !host.run("kill -0 \(pid)").succeeded }
        }
      }
    }

    /// The processes of a daemon's broker: the one that looks after the other, and the other.
    func broker(of daemon: Daemon, on host: Namespace) throws -> (keeper: Int, server: Int) {
      func child(of pid: Int) throws -> Int {
        let children = try host.must("cat /proc/\(pid)/task/\(pid)/children")
        return try #require(children.split(separator: " ").first.flatMap { Int($0) })
      }
      let keeper = try child(of: Int(daemon.process.pid))
      return (keeper, try child(of: keeper))
    }

    /// A broker that is killed has a successor at once, and one that nobody looks after goes on.
    ///
    /// Without any no container can be looked for nor entered; whoever asks is told why, and all
    /// else goes on.
    @Test func aBrokerThatHasGone() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let red = try lab.namespace("red")
        let bin = "\(host.rundir)/bin"
        try host.must(
          "mkdir \(bin); printf '#!/bin/sh\\nexit 1\\n' > \(bin)/docker; chmod 755 \(bin)/docker")
        let daemon = try lab.daemon(on: host, searchPath: bin)
        try host.ctl("add-br br0")
        try host.ctl("attach br0 \(red.name) eth0 ip=10.1.1.1/24")
        try host.ctl("set interface br0 addresses=10.1.1.2/24")
        for _ in 0..<3 {
          let former = try broker(of: daemon, on: host).server
          try host.must("kill -KILL \(former)")
          try host.ctl("attach br0 \(red.name) eth1")
          try host.ctl("detach \(red.name) eth1")
          #expect(try broker(of: daemon, on: host).server != former)
        }
        let (keeper, server) = try broker(of: daemon, on: host)
        try host.must("kill -KILL \(keeper)")
        try host.ctl("attach br0 \(red.name) eth1")
        try host.ctl("detach \(red.name) eth1")
        try host.must("kill -KILL \(server)")
        for target in ["some-container", red.name] {
          let refused = try host.ctl(["attach", "br0", target, "eth1"])
          #expect(
            refused.status == 1 && refused.standardError.contains("(ovx-broker) has gone"),
            "\(refused)")
        }
        #expect(try host.ctl("list-ports br0").contains("eth0@\(red.name)"))
        try red.expectPing("10.1.1.2")
      }
    }

    /// What systemd thinks of the units: 2.0 at most, and no more than they have come to where
    /// their work does not let them get there.
    @Test func unitsAreExposedNoMoreThanTheyHaveToBe() throws {
      let limits = [
        "ovx-broker@.service": 2.9, "ovx-gatewayd.service": 3.3, "ovx-names@.service": 2.9,
      ]
      let directory = Lab.packageRoot.appendingPathComponent("deploy")
      let units = try FileManager.default.contentsOfDirectory(atPath: directory.path)
        .filter { $0.hasSuffix(".service") }
      #expect(units.count >= 5)
      for unit in units.sorted() {
        let analysis = try Command([
          "systemd-analyze", "security", "--offline=yes", "--no-pager",
          directory.appendingPathComponent(unit).path,
        ]).finish(seconds: 30).standardOutput
        let level = try #require(
          analysis.firstMatch(of: /Overall exposure level for .*: ([\d.]+)/), "\(analysis)"
        ).1
        #expect(try #require(Double(level)) <= limits[unit] ?? 2.0, "\(unit): \(level)")
      }
    }

    /// A host that allows no io_uring: one sentence with the cause and the remedy, in place of a
    /// switch that moves nothing.
    @Test(arguments: [
      ("EPERM", "2", "kernel.io_uring_disabled is 2", "sysctl kernel.io_uring_disabled=0"),
      ("EPERM", "1", "kernel.io_uring_disabled is 1", "kernel.io_uring_group"),
      ("EPERM", "0", "a security policy (seccomp or SELinux) forbids io_uring", "io_uring_setup"),
      (
        "ENOSYS", "0", "the kernel has no io_uring, or a seccomp filter hides it", "CONFIG_IO_URING"
      ),
    ])
    func withoutIOUring(_ error: String, _ policy: String, _ cause: String, _ remedy: String) throws
    {
      try Lab.run { lab in
        lab.expectLog("critical: ")
        let host = try lab.namespace("host1")
        // Of the switch for the whole machine only what is read from it is another: others use
        // io_uring meanwhile.
        let refused = try host.run(
          """
          echo \(policy) > \(host.rundir)/policy
          mount --bind \(host.rundir)/policy /proc/sys/kernel/io_uring_disabled
          exec /usr/bin/python3 -c '
          import ctypes, errno, os, shutil, sys
          seccomp = ctypes.CDLL("libseccomp.so.2")
          seccomp.seccomp_init.restype = ctypes.c_void_p
          filter = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(0x7fff0000)))
          number = seccomp.seccomp_syscall_resolve_name(b"io_uring_setup")
          refuse = ctypes.c_uint32(0x00050000 | getattr(errno, sys.argv[1]))
          assert seccomp.seccomp_rule_add_array(filter, refuse, number, 0, None) == 0
          assert seccomp.seccomp_load(filter) == 0
          os.execv(shutil.which("ovx-vswitchd"), ["ovx-vswitchd", "--rundir", sys.argv[2]])
          ' \(error) \(host.rundir)
          """, seconds: 20)
        #expect(refused.status == 1, "\(refused)")
        #expect(
          refused.standardError.contains(cause) && refused.standardError.contains(remedy),
          "\(refused)")
        #expect(try !host.run("test -e \(host.rundir)/vswitchd.sock").succeeded)
      }
    }
  }
}
