"""The servers of a run: who they are (contenders.toml), how one is started, what it uses, how it ends."""

import contextlib
import itertools
import os
import random
import re
import signal
import socket
import subprocess
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from load import PLAIN_HOST, Failed, fetch

HERE = Path(__file__).resolve().parent
ORIGIN = "origin"
START_SECONDS = 20.0
STOP_SECONDS = 30.0
REST_SECONDS = 10.0
REST_STEP_SECONDS = 0.25
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Contender:
    """One entry of contenders.toml, where its fields are explained."""

    name: str
    commands: list[str]
    versions: list[str]
    shape: str
    durable: bool = False
    memory_tier: bool = True
    seconds_to_keep: float = 0
    folders: str | None = None
    access_log: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def contenders() -> dict[str, Contender]:
    """All entries by name, the origin too."""
    text = (HERE / "contenders.toml").read_text()
    return {name: Contender(name, **entry) for name, entry in tomllib.loads(text).items()}


@dataclass(frozen=True)
class Sizes:
    """How large a contender's cache is; the defaults are those of the rows in memory."""

    memory_mib: int = 256
    disk_mib: int = 256
    entries: int = 0
    """Where many are wanted: contenders that set room aside for each, by count, get enough for twice as many."""

    def values(self) -> dict[str, str]:
        """What templates and commands name of it, in the units of each program."""
        room_each = self.disk_mib * 2**20 // (2 * max(1, self.entries))
        return {
            "memory_mib": str(self.memory_mib),
            "memory_bytes": str(self.memory_mib * 2**20),
            "disk_mib": str(self.disk_mib),
            "max_object_mib": str(min(16, self.memory_mib)),
            # nginx keeps some 8000 keys in a MiB; trafficserver makes a directory entry for each so many bytes of disk.
            "zone_mib": str(max(64, 2 * self.entries // 8000)),
            "average_object": str(min(8000, room_each)),
            # Not its default where a stop is timed, as it loses what it stored after it wrote its directory.
            "sync_seconds": "1" if self.entries else "60",
        }


class Server:
    """A running contender, or the origin: its folder, ports and processes."""

    def __init__(self, contender: Contender, folder: Path, values: Mapping[str, str], cpu: int) -> None:
        self.contender = contender
        self.folder, self.store = folder, Path(values["store"])
        self.http, self.https = free_port(), free_port()
        self.has_logged = False
        self._values = {**values, "dir": str(folder), "http": str(self.http), "https": str(self.https)}
        self._cpu = cpu
        self._began = 0.0
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, path: str) -> float:
        """Returns once the server answers `path`, with the seconds that its plain port took; otherwise raises
        `Failed`, with nothing left running. After a stop it starts again, over what it has stored."""
        try:
            self._render()
            self._began = time.monotonic()
            for command in self.contender.commands:
                self._spawn(self._fill(command).split())
                # The next one may want it: hitch does not start without varnish's socket.
                self._wait_for(f"http://{PLAIN_HOST}{path}", self.http)
            answered = self.age()
            if self.contender.name != ORIGIN:
                self._wait_for(f"https://localhost{path}", self.https)
            return answered
        except BaseException as problem:
            self.stop()
            if isinstance(problem, Failed | OSError):
                raise Failed(f"{self.contender.name} did not start: {problem}\n{self.log_tail()}") from problem
            raise

    def stop(self) -> None:
        """Ends the server's processes, each by its own id, asking first."""
        left = {pid: _start_time(pid) for pid in self._pids()}
        for process in reversed(self._running):
            process.terminate()
        for process in self._running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        for pid, started in left.items():
            # The start time tells that the id still means the same process.
            if started and _start_time(pid) == started:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for process in self._running:
            process.wait()
        self._running.clear()

    def age(self) -> float:
        """Seconds since its program was started."""
        return time.monotonic() - self._began

    def is_alive(self) -> bool:
        return all(process.poll() is None for process in self._running)

    def versions(self) -> str:
        """Its programs with their versions, as they tell them."""
        found = []
        for command in self.contender.versions:
            words = self._fill(command).split()
            shown = subprocess.run(words, capture_output=True, text=True, check=False)
            number = re.search(r"\d+\.\d+[\w.+~-]*", shown.stdout + shown.stderr)
            found.append(f"{Path(words[0]).name} {number.group() if number else '(unknown)'}")
        return ", ".join(found)

    def cpu_seconds(self) -> float:
        """User and system time of all its processes so far, children that ended included."""
        stats = (_stat(pid) for pid in self._pids())
        return sum(int(ticks) for stat in stats for ticks in stat[11:15]) / TICKS_A_SECOND

    def memory_bytes(self) -> int:
        """Proportional set size: pages that its processes share are counted once."""
        texts = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self._pids())
        return sum(int(kib) * 1024 for text in texts for kib in re.findall(r"^Pss:\s+(\d+)", text, re.MULTILINE))

    def rest(self) -> None:
        """Returns once the server hardly works any more: what it still does behind the last answer is done."""
        deadline = time.monotonic() + REST_SECONDS
        before = self.cpu_seconds()
        while time.monotonic() < deadline:
            time.sleep(REST_STEP_SECONDS)
            now = self.cpu_seconds()
            if now - before <= 1.5 / TICKS_A_SECOND:
                return
            before = now

    def empty_access_log(self) -> None:
        """Keeps the disk from filling up: a run logs some gigabytes."""
        path = self.folder / (self.contender.access_log or "no-access-log")
        if path.exists():
            self.has_logged |= path.stat().st_size > 0
            os.truncate(path, 0)

    def log_tail(self, lines: int = 8) -> str:
        patterns = ("*.err", "*.out", "error.log", "log/*.log")
        paths = sorted(path for pattern in patterns for path in self.folder.glob(pattern))
        ends = ((path.name, _end(path).splitlines()[-lines:]) for path in paths)
        return "\n".join(f"{name}: {line}" for name, end in ends for line in end if line.strip())

    def _render(self) -> None:
        for name in (".", "log", "work"):
            (self.folder / name).mkdir(exist_ok=True)
        if self.contender.folders and not any(self.store.iterdir()):
            make_folders(Path(self._fill(self.contender.folders)))
        for template in (HERE / "templates" / self.contender.name).iterdir():
            (self.folder / template.name).write_text(self._fill(template.read_text()))

    def _fill(self, template: str) -> str:
        return Template(template).substitute(self._values)

    def _spawn(self, command: list[str]) -> None:
        log = self.folder / Path(command[0]).name
        with log.with_suffix(".out").open("ab") as out, log.with_suffix(".err").open("ab") as err:
            process = subprocess.Popen(
                ["taskset", "-c", str(self._cpu), *command],
                cwd=self.folder,
                env={**os.environ, **self.contender.environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                # Out of the terminal's reach, so that Ctrl-C ends the run and the run ends the servers.
                start_new_session=True,
            )
        self._running.append(process)

    def _wait_for(self, url: str, port: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            for ended in (process.returncode for process in self._running if process.poll() is not None):
                raise Failed(f"it ended with exit code {ended}")
            try:
                fetch(url, port, Path(self._values["cert"]))
                return
            except Failed:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    def _pids(self) -> Iterator[int]:
        """Its processes and all their descendants."""
        children: dict[int, list[int]] = {}
        for pid in (int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
            if stat := _stat(pid):
                children.setdefault(int(stat[1]), []).append(pid)
        waiting = [process.pid for process in self._running if process.poll() is None]
        while waiting:
            pid = waiting.pop()
            yield pid
            waiting += children.get(pid, [])


def make_folders(parent: Path) -> None:
    """The 16 folders of 256 each that nginx's `levels=1:2` names."""
    for outer, inner in itertools.product(range(16), range(256)):
        (parent / f"{outer:x}" / f"{inner:02x}").mkdir(parents=True)


# Below the range from which the system takes ports for clients: there, a port that is free now can be a load
# generator's own a moment later. None is given out twice.
_ports = iter(random.sample(range(20000, 32000), 12000))


def free_port() -> int:
    for port in _ports:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise Failed("no free port between 20000 and 32000")


def _end(path: Path, size: int = 16384) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - size))
        return file.read().decode(errors="replace").replace("\0", "")


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third (the state) on; empty for a process that is gone."""
    try:
        # The name before them may hold spaces.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _start_time(pid: int) -> str | None:
    stat = _stat(pid)
    return stat[19] if stat else None
