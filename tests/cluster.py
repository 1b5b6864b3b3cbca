"""A Slurm cluster on this host: slurmctld and several slurmd, with munge, in a temporary folder, without systemd. For the tests
alone: its nodes share the host's processors."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "sinfo")
DAEMON_FOLDERS = "/usr/sbin:/sbin"
# Seconds that Slurm leaves a requeued task alone, 120 unless told: for 10 of them the controller still tries to tell the node that
# failed to end the task, and a new run of it there would be ended instead.
REQUEUE_S = 15
CONFIGURATION = """\
ClusterName=loop
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/run/munge.socket,cred_expire={requeue}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,bf_interval=1,sched_interval=1,sched_min_interval=10000
SlurmdTimeout=300
ReturnToService=2
MpiDefault=none
MailProg={true}
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs={cpus} SocketsPerBoard=1 \
CoresPerSocket={cpus} ThreadsPerCore=1 RealMemory=100 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def why_not():
    """Why there can be no cluster here; empty where there can."""
    if os.geteuid() != 0:
        return "the daemons of Slurm need root"
    missing = [name for name in PROGRAMS if not shutil.which(name, path=os.environ["PATH"] + ":" + DAEMON_FOLDERS)]
    return f"not installed: {', '.join(missing)} (Debian: slurm-wlm, munge)" if missing else ""


def free_ports(count):
    """Ports in a row that nobody listens on now."""
    for first in range(20000, 30000, count):
        probes = [socket.socket() for _ in range(count)]
        try:
            for port, probe in enumerate(probes, first):
                probe.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
        finally:
            for probe in probes:
                probe.close()
    raise OSError("no free ports")


def wait_for(condition, what, timeout_s=300):
    """The first true value of condition(); long, because the host may be busy."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    raise TimeoutError(what)


def environment_of(process):
    try:
        return dict(entry.split("=", 1) for entry in
                    pathlib.Path(f"/proc/{process}/environ").read_bytes().decode(errors="replace").split("\0") if "=" in entry)
    except OSError:  # ended meanwhile
        return {}


def kill(process):
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        pass


class Cluster:
    def __init__(self, folder, nodes):
        self.folder, self.nodes = pathlib.Path(folder), [f"n{k + 1}" for k in range(nodes)]
        self.environment = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf"),
                            "PATH": os.environ["PATH"] + ":" + DAEMON_FOLDERS}
        for name in ("run", "state", *(f"spool-{node}" for node in self.nodes)):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        (self.folder / "run").chmod(0o755)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        port = free_ports(nodes + 1)
        host = socket.gethostname().split(".")[0]
        (self.folder / "slurm.conf").write_text(CONFIGURATION.format(
            host=host, port=port, folder=self.folder, true=shutil.which("true"), nodes=nodes, first=port + 1, last=port + nodes,
            requeue=REQUEUE_S, cpus=os.cpu_count()))
        run = self.folder / "run"
        self.command("munged", "--force", f"--key-file={key}", f"--socket={run}/munge.socket", f"--pid-file={run}/munged.pid",
                     f"--log-file={self.folder}/munged.log", f"--seed-file={run}/munged.seed")
        self.command("slurmctld", "-c")
        for node in self.nodes:
            self.start_node(node)
        wait_for(lambda: self.command("sinfo", "-h", "-t", "idle", "-o", "%D").strip() == str(nodes), "idle nodes")

    def attempt(self, *words):
        return subprocess.run(words, env=self.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120,
                              check=False)

    def command(self, *words):
        done = self.attempt(*words)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def start_node(self, node):
        self.command("slurmd", "-N", node)

    def kill_node(self, node):
        """Everything that runs on it, at once, as if its power failed; then Slurm is told, so as not to wait for its time-out."""
        kill(int((self.folder / "run" / f"slurmd.{node}.pid").read_text()))
        steps = tuple(f"slurmstepd: [{job}." for job in self.command("squeue", "-h", "-w", node, "-o", "%A").split())
        for process, environment, command in self.processes():
            if command.startswith(steps) or environment.get("SLURMD_NODENAME") == node:
                kill(process)
        self.command("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=killed")

    def processes(self):
        """Process id, environment and command of everything that belongs to this cluster."""
        for entry in pathlib.Path("/proc").iterdir():
            environment = environment_of(entry.name) if entry.name.isdigit() else {}
            if environment.get("SLURM_CONF") == self.environment["SLURM_CONF"]:
                try:
                    yield int(entry.name), environment, (entry / "cmdline").read_bytes().decode(errors="replace")
                except OSError:  # ended meanwhile
                    pass

    def stop(self):
        for process, _, _ in self.processes():  # munged, the daemons, their steps and jobs
            kill(process)
