"""Measures sovereign-proxy beside nginx, varnish, haproxy and trafficserver as caches over one origin.

Run by `benches/side-by-side`, which first sees to the programs. In order: prepare a folder, start the origin and
the contenders, hits, handshakes, misses, idle connections, the durable tier, report.
"""

import argparse
import contextlib
import fnmatch
import itertools
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import durable
import load
from load import Failed
from report import BASE, HANDSHAKE_HEADINGS, Memory, Results, Sample, markdown
from servers import ORIGIN, Server, Sizes, contenders

ROOT = Path(__file__).resolve().parents[2]
SUBJECT = "sovereign-proxy"
SIZES = {"1k": 1024, "16k": 16 * 1024, "1m": 1024 * 1024}
MISS = "miss"
MISS_BODY = "0123456789abcdef" * 64
CELLS = (*(f"{protocol}-{size}" for size in SIZES for protocol in ("h1", "h1s", "h2")), MISS)
HANDSHAKES = tuple(HANDSHAKE_HEADINGS)
DESCRIPTORS_TO_SPARE = 500
FEWEST_ENTRIES = 10_000


def main() -> int:
    arguments = parse_arguments()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    try:
        with (
            temporary_folder() as folder,
            temporary_folder(arguments.store) as store,
            temporary_folder(arguments.disk_store) as disk_store,
        ):
            run = Run(arguments, folder, store, disk_store, raise_descriptor_limit())
            run.all()
            text = markdown(run.results, run.facts())
    except (Failed, OSError, subprocess.CalledProcessError) as problem:
        print(f"side-by-side: {problem}", file=sys.stderr)
        return 1
    print(text, end="")
    if arguments.output:
        arguments.output.write_text(text)
    return 1 if run.results.problems else 0


@contextlib.contextmanager
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="side-by-side-", dir=parent, ignore_cleanup_errors=True) as name:
        # A server's worker may have another user than the one who started it.
        Path(name).chmod(0o711)
        yield Path(name)


def parse_arguments() -> argparse.Namespace:
    names = [name for name in contenders() if name != ORIGIN]
    parser = argparse.ArgumentParser(
        prog="side-by-side",
        description="Measures sovereign-proxy beside other caches over one origin; prints a report in Markdown.",
        epilog="Exit codes: 0 done, 1 a server or a cell failed (the report names it), 2 usage. "
        "Configurations and logs lie in TMPDIR while it runs.",
    )
    option = parser.add_argument
    option("--rounds", type=_positive, default=5, help="turns of each server in each cell (default 5)")
    option("--seconds", type=_positive, default=3, help="length of a turn (default 3)")
    option("--only", type=_chosen(names), default=names, metavar="NAME[,..]", help=", ".join(names))
    every = [*CELLS, *HANDSHAKES, *durable.ROWS]
    cells_help = f"patterns as in 'h2-*,miss'; all: {', '.join(every)}"
    option("--cells", type=_chosen(every), default=every, metavar="CELL[,..]", help=cells_help)
    only_durable_help = f"of the cells only {', '.join(durable.ROWS)}; no idle connections"
    option("--only-durable", action="store_true", help=only_durable_help)
    entries_help = f"objects stored before the start that is timed, {FEWEST_ENTRIES} or more (default 100000)"
    option("--entries", type=_entries, default=100_000, metavar="N", help=entries_help)
    connections_help = f"idle TLS connections to {SUBJECT} and {BASE}; 0 leaves them out (default 10000)"
    option("--connections", type=_natural, default=10_000, metavar="N", help=connections_help)
    option("--quick", action="store_true", help="one round of one second, 1000 connections, few objects: does it work")
    option("--output", type=Path, metavar="FILE", help="also write the report there")
    binary_help = f"the {SUBJECT} to measure; or name it in SOVEREIGN_PROXY; else it is built with the profile `dist`"
    option("--binary", default=os.environ.get("SOVEREIGN_PROXY"), metavar="FILE", help=binary_help)
    store_help = "where the servers keep their cache files (default: in memory, where 2 GiB are free there)"
    option("--store", type=Path, default=default_store(), metavar="DIR", help=store_help)
    disk_store_help = "where the durable rows keep theirs, on a real disk (default: TMPDIR)"
    disk_store_default = Path(tempfile.gettempdir())
    option("--disk-store", type=Path, default=disk_store_default, metavar="DIR", help=disk_store_help)
    arguments = parser.parse_args()
    if arguments.only_durable:
        arguments.cells = [cell for cell in arguments.cells if cell in durable.ROWS]
        arguments.connections = 0
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 1
        arguments.connections = min(arguments.connections, 1000)
    return arguments


def default_store() -> Path:
    """A file system in memory, if there is room: on a disk, a miss of nginx costs two to four times as much, and
    another figure each time."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > 2 << 30 else Path(tempfile.gettempdir())


def raise_descriptor_limit() -> int:
    """To the hard limit, for this process and those it starts."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limit = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


class Run:
    """One run: what was asked for, where it happens, what it found."""

    def __init__(
        self, arguments: argparse.Namespace, folder: Path, store: Path, disk_store: Path, nofile: int
    ) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self.arguments = arguments
        self.folder, self.store, self.disk_store = folder, store, disk_store
        self.server_cpu, self.load_cpu = cores[0], cores[-1]
        self.numbers = itertools.count()
        self.running: dict[str, Server] = {}
        self.cells = [cell for cell in arguments.cells if cell in CELLS]
        self.handshakes = [cell for cell in arguments.cells if cell in HANDSHAKES]
        self.rows = [row for row in arguments.cells if row in durable.ROWS]
        self.scale = durable.scale(arguments.entries, arguments.quick)
        if self.rows and shutil.disk_usage(disk_store).free < durable.disk_bytes(self.scale):
            wanted = durable.disk_bytes(self.scale) >> 30
            raise Failed(f"the durable rows want {wanted} GiB in {disk_store.parent}; or name another --disk-store")
        self.results = Results(self.cells, min(arguments.connections, nofile - DESCRIPTORS_TO_SPARE))
        self.results.handshake_cells = self.handshakes
        self.results.durable_cells = [cell for row in self.rows for cell in durable.ROWS[row]]
        self.results.entries = self.scale.entries
        self.values = self._prepare(nofile)
        self.cert = Path(self.values["cert"])
        self.has_disk_tier = SUBJECT in arguments.only and has_disk_tier(self.values["binary"])
        self.origin = self.server(ORIGIN)
        if len(cores) == 1:
            self.problem("only one core: server and load generator disturbed each other")
        if self.results.connections < arguments.connections:
            scaled = f"from {arguments.connections} to {self.results.connections}"
            self.problem(f"idle connections scaled down {scaled}: a process may open {nofile} files here")

    def all(self) -> None:
        hits = [cell for cell in self.cells if cell != MISS]
        misses = [cell for cell in self.cells if cell == MISS]
        try:
            self.origin.start("/1k")
            if self.cells or self.handshakes or self.results.connections:
                self._start_contenders()
            self._rounds(hits)
            if hits:
                self._note_memory_after_hits()
            self._rounds(self.handshakes)
            self._rounds(misses)
            self._note_silent_logs()
            self._stop_contenders()
            self._idle_connections()
            if self.rows:
                self._durable_rows()
        finally:
            self._stop_contenders()
            self.origin.stop()
            self.progress("")

    def facts(self) -> dict[str, str]:
        """What the report says of this run beside its results."""
        seconds = self.arguments.seconds
        commands = (
            f"HTTP/1.1: {load.WRK} -d {seconds}s",
            f"h2:       {load.H2LOAD} -D {seconds}",
            "misses:   as HTTP/1.1, without TLS, a different address each time",
            f"TLS:      handshakes ADDRESS {seconds} full|resumed|mlkem (16 at once, no request)",
        )
        return {
            "command": shlex.join(["benches/side-by-side", *sys.argv[1:]]),
            "rounds": str(self.arguments.rounds),
            "seconds": str(seconds),
            "commands": "\n".join(commands),
            "store": file_system(self.store),
            "disk_store": file_system(self.disk_store),
            "hits_objects": str(self.scale.hits_objects),
            "hits_memory": str(self.scale.hits_memory_mib),
            "hits_rounds": str(durable.rounds_of(durable.HITS_ROW, self.arguments.rounds)),
            "storm_objects": str(self.scale.storm_objects),
            "storm_rounds": str(durable.rounds_of(durable.STORM_ROW, self.arguments.rounds)),
            "entries": str(self.scale.entries),
            "once_command": load.ONCE,
        }

    def _prepare(self, nofile: int) -> dict[str, str]:
        """Files for the origin, a certificate, a binary: all that templates and commands name."""
        files = self.folder / "files"
        files.mkdir()
        for name, size in SIZES.items():
            (files / name).write_bytes(os.urandom(size))
        cert, key, pem = (self.folder / name for name in ("cert.pem", "key.pem", "both.pem"))
        make_certificate(cert, key)
        pem.write_text(cert.read_text() + key.read_text())
        as_root = os.geteuid() == 0
        return {
            "files": str(files),
            "cert": str(cert),
            "key": str(key),
            "pem": str(pem),
            "miss_body": MISS_BODY,
            **durable.origin_values(),
            "nofile": str(nofile),
            "binary": self._binary(),
            "handshakes": self._built("sovereign-benches", "handshakes") if self.handshakes else "",
            # As root, nginx would give its workers a user who cannot write here, and hitch refuses to go on as root.
            "nginx_user": "user root root;" if as_root else "",
            "hitch_user": 'user = "nobody"' if as_root else "",
        }

    def _binary(self) -> str:
        if SUBJECT not in self.arguments.only:
            return SUBJECT
        if self.arguments.binary:
            return str(Path(self.arguments.binary).resolve())
        return self._built(SUBJECT, SUBJECT)

    def _built(self, package: str, binary: str) -> str:
        self.progress(f"building {binary}")
        subprocess.run(["cargo", "build", "--profile", "dist", "-p", package, "--bin", binary], cwd=ROOT, check=True)
        return str(ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "dist" / binary)

    def server(self, name: str, sizes: Sizes = Sizes(), on_disk: bool = False) -> Server:
        """A contender or the origin, not yet started, with a cache folder of its own."""
        instance = f"{name}-{next(self.numbers)}"
        store = (self.disk_store if on_disk else self.store) / instance
        store.mkdir()
        values = self.values | sizes.values() | {"store": str(store)}
        if name != ORIGIN:
            values["origin"] = str(self.origin.http)
        # An older program does not know the key and refuses it.
        values["disk_line"] = f'disk = "{sizes.disk_mib}MiB"' if self.has_disk_tier else ""
        cpu = self.load_cpu if name == ORIGIN else self.server_cpu
        return Server(contenders()[name], self.folder / instance, values, cpu)

    def _start_contenders(self) -> None:
        for name in self.arguments.only:
            self.progress(f"starting {name}")
            self.results.memory[name] = Memory()
            if server := self._started(name):
                self._describe(server)
                self.results.memory[name].idle = server.memory_bytes()

    def _describe(self, server: Server) -> None:
        self.results.contenders[server.contender.name] = f"{server.versions()}; {server.contender.shape}"

    def _durable_rows(self) -> None:
        names = self.arguments.only
        for name in names:
            self.results.memory.setdefault(name, Memory())
            self._describe(self.server(name))
        if file_system(self.disk_store) in ("tmpfs", "ramfs"):
            self.problem("the durable rows were measured in memory: name a folder on a disk with --disk-store")
        if SUBJECT in names and not self.has_disk_tier:
            self.problem(f"{SUBJECT} has no disk cache: its configuration knows no key `disk` in `cache`")
        durable.Durable(self, self.scale).all(self.rows, names, self.arguments.rounds)

    def _started(self, name: str) -> Server | None:
        try:
            server = self.server(name)
            server.start("/1k")
        except Failed as problem:
            self.problem(str(problem))
            return None
        self.running[name] = server
        return server

    def _stop_contenders(self) -> None:
        while self.running:
            self.running.popitem()[1].stop()

    def _rounds(self, cells: Sequence[str]) -> None:
        for number in range(self.arguments.rounds):
            for position, cell in enumerate(cells):
                names = list(self.running)
                first = (number + position) % max(1, len(names))
                for name in names[first:] + names[:first]:
                    self.progress(f"round {number + 1} of {self.arguments.rounds}: {cell} {name}")
                    self._turn(self.running[name], cell)

    def _turn(self, server: Server, cell: str) -> None:
        name = server.contender.name
        try:
            sample = self._measure(server, cell)
            self.results.turns.setdefault((name, cell), []).append(sample)
        except Failed as problem:
            self.results.invalid.add((name, cell))
            self.problem(f"{name} {cell}: {problem}")
        if not server.is_alive():
            self.results.invalid.add((name, cell))
            self.problem(f"{name} ended while it was measured\n{server.log_tail()}")
            self.running.pop(name).stop()
        server.empty_access_log()
        self.results.note_load()

    def _measure(self, server: Server, cell: str) -> Sample:
        if cell in HANDSHAKES:
            return self._shake_hands(server, cell)
        if cell == MISS:
            # Not counted: the first thousands have nginx make its folders, which costs more than all the rest.
            self._load(server, cell, seconds=1)
        else:
            self._warm(server, cell)
        asked_before = self.origin_requests()
        cpu_before = server.cpu_seconds()
        seen = self._load(server, cell, self.arguments.seconds)
        cpu = server.cpu_seconds() - cpu_before
        # Counting them is a request too.
        asked = self.origin_requests() - asked_before - 1
        check_turn(cell, seen, asked)
        return Sample(cpu * 1e6 / seen.requests, seen.requests / seen.seconds)

    def _shake_hands(self, server: Server, cell: str) -> Sample:
        binary, kind = Path(self.values["handshakes"]), cell.removeprefix("tls-")
        server.rest()
        cpu_before = server.cpu_seconds()
        seen, group = load.handshakes(binary, kind, server.https, self.arguments.seconds, self.load_cpu)
        cpu = server.cpu_seconds() - cpu_before
        if seen.requests == 0 or seen.failures:
            raise Failed(f"{seen.failures} failures beside {seen.requests} handshakes")
        self.results.groups[server.contender.name, cell] = group
        return Sample(cpu * 1e6 / seen.requests, seen.requests / seen.seconds)

    def _warm(self, server: Server, cell: str) -> None:
        """Has the answer stored, and compares it."""
        protocol, size = cell.split("-")
        wanted = (Path(self.values["files"]) / size).read_bytes()
        for _ in range(2):
            if protocol == "h1":
                body = load.fetch(f"http://{load.PLAIN_HOST}/{size}", server.http, self.cert)
            elif protocol == "h1s":
                body = load.fetch(f"https://localhost/{size}", server.https, self.cert)
            else:
                body = load.fetch_h2(f"https://localhost:{server.https}/{size}")
            if body != wanted:
                raise Failed(f"a body of {len(body)} bytes differs from the origin's {len(wanted)}")

    def _load(self, server: Server, cell: str, seconds: int) -> load.Load:
        cpu = self.load_cpu
        protocol, _, size = cell.partition("-")
        plain, secure = f"http://127.0.0.1:{server.http}/{size}", f"https://localhost:{server.https}/{size}"
        if cell == MISS:
            return load.wrk(plain, load.PLAIN_HOST, seconds, cpu, miss_prefix=f"{next(self.numbers)}-")
        if protocol == "h1":
            return load.wrk(plain, load.PLAIN_HOST, seconds, cpu)
        if protocol == "h1s":
            return load.wrk(secure, "localhost", seconds, cpu)
        return load.h2load(secure, server.https, seconds, cpu)

    def origin_requests(self) -> int:
        """From nginx's stub_status, whose third line ends with the number of requests."""
        text = load.fetch(f"http://{load.PLAIN_HOST}/status", self.origin.http, self.cert).decode()
        return int(text.splitlines()[2].split()[2])

    def _note_memory_after_hits(self) -> None:
        for name, server in self.running.items():
            self.results.memory[name].after_hits = server.memory_bytes()

    def _note_silent_logs(self) -> None:
        for name, server in self.running.items():
            if server.contender.access_log and not server.has_logged:
                self.problem(f"{name}: its access log stayed empty, so its figures lack that work")

    def _idle_connections(self) -> None:
        """With servers started anew, as misses leave memory behind."""
        count = self.results.connections
        for name in (SUBJECT, BASE):
            if name not in self.results.contenders or not count:
                continue
            self.progress(f"{count} idle connections: {name}")
            if server := self._started(name):
                memory, before = self.results.memory[name], server.memory_bytes()
                try:
                    held = load.with_idle_connections(
                        count, server.https, "/1k", self.cert, self.load_cpu, server.memory_bytes
                    )
                    memory.with_connections, memory.a_connection = held, (held - before) / count
                except Failed as problem:
                    self.problem(f"{name}: {problem}")
            self._stop_contenders()

    def problem(self, text: str) -> None:
        self.results.problems.append(text.strip())

    def progress(self, text: str) -> None:
        """One line that is overwritten, on a terminal only."""
        if sys.stderr.isatty():
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def file_system(folder: Path) -> str:
    """The name of its kind."""
    stat = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=True)
    return stat.stdout.strip()


def has_disk_tier(binary: str) -> bool:
    """Whether this program's configuration has `disk` in `cache`, as its own schema tells."""
    shown = subprocess.run([binary, "check", "--schema"], capture_output=True, text=True, check=True)
    return "disk" in json.loads(shown.stdout)["$defs"]["CacheBounds"]["properties"]


def make_certificate(cert: Path, key: Path) -> None:
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 7 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)


def check_turn(cell: str, seen: load.Load, asked: int) -> None:
    """Refuses a turn whose figures say nothing: answers were wrong, or came from elsewhere than they should."""
    size = len(MISS_BODY) if cell == MISS else SIZES[cell.split("-")[1]]
    if seen.requests == 0:
        raise Failed("no request was completed")
    if seen.failures:
        raise Failed(f"{seen.failures} failures beside {seen.requests} completed requests")
    if seen.data_bytes < seen.requests * size:
        raise Failed(f"{seen.requests} answers brought only {seen.data_bytes} bytes")
    # Requests that were under way when the load generator stopped reach the origin too, but are not counted.
    lowest, highest = (seen.requests, seen.requests * 1.01 + 100) if cell == MISS else (0, 0)
    if not lowest <= asked <= highest:
        raise Failed(f"the origin was asked {asked} times for {seen.requests} requests")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: wanted a whole number above 0")
    return number


def _natural(text: str) -> int:
    return _positive(text) if text != "0" else 0


def _entries(text: str) -> int:
    number = int(text)
    if number < FEWEST_ENTRIES:
        raise argparse.ArgumentTypeError(f"{text}: wanted {FEWEST_ENTRIES} or more")
    return number


def _chosen(known: Sequence[str]) -> Callable[[str], list[str]]:
    """A parser of lists with patterns, which refuses a pattern that means nothing."""

    def parse(text: str) -> list[str]:
        patterns = text.split(",")
        for pattern in patterns:
            if not fnmatch.filter(known, pattern):
                raise argparse.ArgumentTypeError(f"{pattern}: wanted one of {', '.join(known)}")
        return [name for name in known if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]

    return parse


if __name__ == "__main__":
    sys.exit(main())
