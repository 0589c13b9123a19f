"""The filesystems that a benchmark compares, each with all the processes that serve it.

A peer is mounted afresh by remount() as often as wanted, over the same stored files. Ended by close(), in whatever state it is.
"""

import json
import os
import pwd
import shutil
import socket
import subprocess
import time
from pathlib import Path

from lib.hpkvd import UnixConnection
from lib.processes import end_processes, free_mount, mounted, program, wait_for, with_variable

# Inherited by every process that is started, so that they are found again; its value is the temporary folder.
VARIABLE = "HPKVFS_BENCH"

PASSTHROUGH = "/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c"
SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server")


class Failed(Exception):
    """A benchmark cannot go on; the text says why."""


def need(tool, package):
    """The path of a tool; sbin is not in everybody's PATH."""
    path = shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not path:
        raise Failed(f"{tool} is missing: install the Debian package {package}")
    return path


# --- what processes cost ---


def of_threads(pid, name):
    """The text of /proc/PID/task/*/NAME, thread by thread; of those that have ended nothing."""
    texts = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            texts.append(Path(f"/proc/{pid}/task/{thread}/{name}").read_text(encoding="ascii"))
    except OSError:
        pass
    return texts


def descendants(pid):
    """The processes below this one."""
    found = []
    for child in " ".join(of_threads(pid, "children")).split():
        found += [int(child), *descendants(int(child))]
    return found


def started():
    """The processes of this run, whoever is their parent."""
    return with_variable(VARIABLE, os.environ[VARIABLE])


def process_name(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _status_kib(pid, name):
    """A line of /proc/PID/status; 0 once the process has ended."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def peak_kib(pid):
    """The most memory that the process has had resident."""
    return _status_kib(pid, "VmHWM:")


def resident_kib(pid):
    return _status_kib(pid, "VmRSS:")


def cpu_seconds(pid):
    """What the process has computed, in user and system mode, with its threads that have ended; 0 once it has itself."""
    try:
        return time.clock_gettime((~pid << 3) | 2)  # its CPU clock, see clock_getcpuclockid(3)
    except OSError:
        return 0.0


# --- one FUSE daemon ---


class Daemon:
    """A FUSE program in the foreground as a child: mounted when the constructor returns."""

    def __init__(self, command, path, log_path, limit):
        self.path, self.log_path, self.limit = path, log_path, limit
        with open(log_path, "ab") as log:
            # A ^C at the terminal is for the benchmark, which unmounts.
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True
            )
        try:
            wait_for(self._ready, f"a mount by {command[0]}", limit)
        except BaseException:
            self.close()
            raise

    def _ready(self):
        if self.process.poll() is not None:
            log = Path(self.log_path).read_text(encoding="utf-8", errors="replace")
            raise Failed(f"{self.process.args} ended with exit code {self.process.returncode}:\n{log}")
        return mounted(self.path)

    def unmount(self):
        done = subprocess.run(["fusermount3", "-u", str(self.path)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failed(f"{self.path} cannot be unmounted: {done.stderr.strip()}")
        try:
            self.process.wait(self.limit)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.process.args[0]} still runs {self.limit} s after the unmount") from None

    def close(self):
        """Whatever state it is in: no mount and no process remains."""
        while (row := mounted(self.path)) and row["type"].startswith("fuse"):
            free_mount(self.path)
        pids = [self.process.pid, *descendants(self.process.pid)]
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            pass
        end_processes(pids)
        self.process.wait(5)


class Peer:
    """
    path    where it is mounted
    peaks   the most memory of its programs so far: KiB by name; sample() brings it up to date
    """

    name = ""

    def __init__(self, folder, limit=60):
        self.folder = Path(folder) / self.name
        self.path = self.folder / "mnt"
        self.path.mkdir(parents=True)
        self.limit = limit
        self.daemon = None
        self.peaks = {}
        self.computed = {}

    def command(self):
        raise NotImplementedError

    def pids(self):
        """Of all processes that serve the mount, the server's included."""
        return [self.daemon.process.pid, *descendants(self.daemon.process.pid)]

    def requests(self):
        """How many requests the server has counted so far, or None."""
        return None

    def remount(self):
        if self.daemon:
            self.sample()
            self.daemon.unmount()
        self.daemon = Daemon(self.command(), self.path, self.folder / "log", self.limit)

    def wait_ready(self):
        """Returns once what is read is kept as long as it is by default. It touches the mount."""

    def sample(self):
        now = {}
        for pid in self.pids():
            name = process_name(pid)
            if name:
                now[name] = now.get(name, 0) + peak_kib(pid)
        for name, kib in now.items():
            self.peaks[name] = max(self.peaks.get(name, 0), kib)

    def cpu(self):
        """Of all processes that ever served it: those that have ended count with what was last seen of them."""
        for pid in self.pids():
            self.computed[pid] = max(self.computed.get(pid, 0.0), cpu_seconds(pid))
        return sum(self.computed.values())

    def close(self):
        if self.daemon:
            self.daemon.close()


class Hpkvfs(Peer):
    """
    local:DIR, options as by default, with a state file of its own

    state   the option's value
    """

    name = "hpkvfs"

    def __init__(self, folder, limit=60):
        super().__init__(folder, limit)
        self.store = self.folder / "store"
        self.state = self.folder / "state"
        self.binary = str(program("src/mount/hpkvfs"))
        os.environ["HPKVD"] = str(program("src/server/hpkvd"))

    def spec(self):
        return f"local:{self.store}"

    def command(self):
        return [self.binary, self.spec(), str(self.path), "-o", f"state={self.state}", "-f"]

    def wait_ready(self):
        wait_for(lambda: json.loads(os.getxattr(self.path, "user.hpkv.stats"))["subscription"]["live"], "the subscription")

    def pids(self):
        # The server is nobody's child.
        return [*super().pids(), *self.server_pids()]

    def server_pids(self):
        return [pid for pid in started() if process_name(pid) == "hpkvd"]

    def requests(self):
        connection = UnixConnection(str(self.store / "socket"))
        try:
            connection.request("GET", "/metrics", headers={"Connection": "close"})
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        lines = [line for line in text.splitlines() if line.startswith("hpkvd_requests_total{")]
        return sum(int(float(line.rpartition(" ")[2])) for line in lines)

    def close(self):
        super().close()
        end_processes(self.server_pids())


class Sshfs(Peer):
    """sshfs with its defaults, to an sshd of its own on loopback: keys and configuration are temporary, and neither ~/.ssh
    nor /etc/ssh is read."""

    name = "sshfs"

    def __init__(self, folder, limit=60):
        super().__init__(folder, limit)
        self.sshfs = need("sshfs", "sshfs")
        need("ssh", "openssh-client")
        self.sshd = need("sshd", "openssh-server")
        self.keygen = need("ssh-keygen", "openssh-client")
        self.sftp_server = next((path for path in SFTP_SERVERS if os.access(path, os.X_OK)), None)
        if not self.sftp_server:
            raise Failed("sftp-server is missing: install the Debian package openssh-sftp-server")
        self.store = self.folder / "store"
        self.store.mkdir()
        self.server = None
        self.made_run = False
        self._make_keys()
        try:
            self._start_server()
        except BaseException:
            self.close()
            raise

    def _make_keys(self):
        for name in ("host_key", "user_key"):
            subprocess.run([self.keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)], check=True)
        shutil.copy(self.folder / "user_key.pub", self.folder / "authorized_keys")
        host_key = " ".join((self.folder / "host_key.pub").read_text(encoding="ascii").split()[:2])
        (self.folder / "known_hosts").write_text(f"bench {host_key}\n", encoding="ascii")

    def _configure(self, port):
        folder = self.folder
        (folder / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host_key\nPidFile none\nUsePAM no\nStrictModes no\n"
            f"AuthorizedKeysFile {folder}/authorized_keys\nPermitRootLogin prohibit-password\n"
            f"PasswordAuthentication no\nKbdInteractiveAuthentication no\nSubsystem sftp {self.sftp_server}\n",
            encoding="utf-8",
        )
        (folder / "ssh_config").write_text(
            f"Host bench\nHostName 127.0.0.1\nHostKeyAlias bench\nPort {port}\nUser {pwd.getpwuid(os.getuid()).pw_name}\n"
            f"IdentityFile {folder}/user_key\nIdentitiesOnly yes\nIdentityAgent none\nBatchMode yes\n"
            f"UserKnownHostsFile {folder}/known_hosts\nGlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\n",
            encoding="utf-8",
        )

    def _start_server(self):
        # Started as root, sshd refuses to run without this folder, which its service makes.
        if os.getuid() == 0 and not os.path.isdir("/run/sshd"):
            os.mkdir("/run/sshd", 0o755)
            self.made_run = True
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._configure(port)
        with open(self.folder / "sshd.log", "ab") as log:
            self.server = subprocess.Popen(
                [self.sshd, "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(lambda: self._listening(port), "sshd to listen", self.limit)

    def _server_log(self):
        return (self.folder / "sshd.log").read_text(encoding="utf-8", errors="replace")

    def _listening(self, port):
        if self.server.poll() is not None:
            raise Failed(f"sshd ended with exit code {self.server.returncode}:\n{self._server_log()}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def command(self):
        return [self.sshfs, "-f", "-F", str(self.folder / "ssh_config"), f"bench:{self.store}", str(self.path)]

    def pids(self):
        # sshfs makes ssh nobody's child; of sshd the session serves the mount, not the listener.
        ssh = [pid for pid in started() if process_name(pid) == "ssh"]
        return [*super().pids(), *ssh, *descendants(self.server.pid)]

    def remount(self):
        try:
            super().remount()
        except Failed as error:
            raise Failed(f"{error}\nsshd says:\n{self._server_log()}") from None
        # The last session may still be ending; it would count twice.
        wait_for(
            lambda: sum(process_name(pid) == "sftp-server" for pid in descendants(self.server.pid)) == 1,
            "one sftp-server",
            self.limit,
        )

    def close(self):
        super().close()
        if self.server:
            end_processes([self.server.pid, *descendants(self.server.pid)])
            self.server.wait(5)
        if self.made_run:
            try:
                os.rmdir("/run/sshd")
            except OSError:
                pass


class Passthrough(Peer):
    """libfuse's example: a FUSE filesystem that does next to nothing of its own, over a folder. It is built anew from the sources
    that the package brings."""

    name = "passthrough"

    def __init__(self, folder, limit=60):
        super().__init__(folder, limit)
        if not os.access(PASSTHROUGH, os.R_OK):
            raise Failed(f"{PASSTHROUGH} is missing: install the Debian package libfuse3-dev, with its documentation")
        self.store = self.folder / "store"
        self.store.mkdir()
        self.binary = self.folder / self.name
        self._build()

    def _build(self):
        compiler, config = need("gcc", "gcc"), need("pkg-config", "pkg-config")
        done = subprocess.run([config, "--cflags", "--libs", "fuse3"], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failed(f"install the Debian package libfuse3-dev: {done.stderr.strip()}")
        command = [compiler, "-O2", "-w", "-o", str(self.binary), PASSTHROUGH, *done.stdout.split()]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failed(f"{PASSTHROUGH} cannot be compiled:\n{done.stderr}")

    def command(self):
        # It holds a descriptor for each file that the kernel knows.
        raised = ["sh", "-c", 'ulimit -S -n "$(ulimit -H -n)"; exec "$@"', "sh"]
        return [*raised, str(self.binary), "-f", "-o", f"source={self.store},cache=always", str(self.path)]
