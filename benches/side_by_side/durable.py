"""The rows about what outlives memory: hits from disk, a storm of misses, a start with many entries. They stand apart
because here a server is started for one row, with sizes of its own, over a folder on a real disk."""

import contextlib
import itertools
import math
import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import load
from load import Failed
from report import DISK_FILL, DISK_FIRST, DISK_SECOND, START, STORM, Results, Sample, Start
from servers import Server, Sizes, contenders

HITS_ROW, STORM_ROW, START_ROW = "disk-hits", "miss-storm", "start"
# Each row with the cells that it fills in the report.
ROWS = {HITS_ROW: (DISK_FILL, DISK_FIRST, DISK_SECOND), STORM_ROW: (STORM,), START_ROW: (START,)}
# For how many rounds asked for there is one here: a storm's turn is long in itself. A start has one in all.
ROUNDS_FOR_A_TURN = {HITS_ROW: 2, STORM_ROW: 5, START_ROW: None}

# By what the origin calls them.
OBJECT_SIZES = {"1k": 1024, "16k": 16 * 1024}
PIECE = "0123456789abcdef" * 128
PIECES = {"1k": 0, "16k": 7}
# What is looked at one by one: by it 1 lost object in 300 is found in 19 of 20 runs.
SAMPLE = 1000
# Stored before the rest, to know what a server takes that holds next to nothing.
FEW_ENTRIES = 2 * SAMPLE
START_SECONDS = 60.0
MOST_SAMPLES = 50
FIRST_PAUSE_SECONDS = 0.05
# What the storm writes, and nginx with the two blocks of 4 KiB that an object of 1 KiB takes at most.
DISK_BYTES_FOR_STORM = 3 << 30
DISK_BYTES_AN_ENTRY = 8 << 10
PEAK_STEP_SECONDS = 0.25
REMOVERS = 32


@dataclass(frozen=True)
class Scale:
    """How much is stored in each row."""

    hits_objects: int
    hits_memory_mib: int
    storm_objects: int
    entries: int


def scale(entries: int, quick: bool) -> Scale:
    """The working set of the disk hits, in objects of 16 KiB, is four times the memory."""
    return Scale(4096, 16, 10_000, min(entries, 10_000)) if quick else Scale(16_384, 64, 100_000, entries)


def disk_bytes(wanted: Scale) -> int:
    """What has to be free on the disk."""
    return max(DISK_BYTES_FOR_STORM, wanted.entries * DISK_BYTES_AN_ENTRY)


def rounds_of(row: str, rounds: int) -> int:
    """How many turns each server has in a row, where `rounds` are asked for."""
    for_a_turn = ROUNDS_FOR_A_TURN[row]
    return math.ceil(rounds / for_a_turn) if for_a_turn else 1


def origin_values() -> dict[str, str]:
    """What the origin's template needs to make objects as `Objects` tells them."""
    rest = {kind: size - len(Objects(kind, 0).at(0)) - PIECES[kind] * len(PIECE) for kind, size in OBJECT_SIZES.items()}
    return {"piece": PIECE} | {f"rest_{kind}": PIECE[:length] for kind, length in rest.items()}


@dataclass(frozen=True)
class Objects:
    """A family of objects of one size, told apart by number; the origin has any family that one asks for."""

    kind: str
    family: int

    @property
    def path(self) -> str:
        """What stands before the number."""
        return f"/objects-{self.kind}/{self.family:04}-"

    def at(self, number: int) -> str:
        """The path of one."""
        return f"{self.path}{number:08}"

    def body(self, number: int) -> bytes:
        """What the origin answers there."""
        text = self.at(number) + PIECE * (PIECES[self.kind] + 1)
        return text[: OBJECT_SIZES[self.kind]].encode()


class Bench(Protocol):
    """What these rows need of the run."""

    results: Results
    load_cpu: int

    def server(self, name: str, sizes: Sizes, on_disk: bool) -> Server: ...
    def origin_requests(self) -> int: ...
    def problem(self, text: str) -> None: ...
    def progress(self, text: str) -> None: ...


class Durable:
    """Runs the rows."""

    def __init__(self, bench: Bench, wanted: Scale) -> None:
        self._bench = bench
        self._scale = wanted
        self._families = itertools.count()
        self._random = random.Random(1)

    def all(self, rows: Sequence[str], names: Sequence[str], rounds: int) -> None:
        """Every row's turns; servers without a durable cache take part in the storm only."""
        keeping = [name for name in names if contenders()[name].durable]
        turns: dict[str, tuple[Callable[[Server], None], Sizes, Sequence[str]]] = {
            HITS_ROW: (self._disk_hits, Sizes(self._scale.hits_memory_mib, 2048), keeping),
            STORM_ROW: (self._miss_storm, Sizes(256, 4096), names),
            START_ROW: (self._start, self._start_sizes(), keeping),
        }
        for row in rows:
            turn, sizes, takers = turns[row]
            most = rounds_of(row, rounds)
            for number in range(most):
                first = number % max(1, len(takers))
                for name in [*takers[first:], *takers[:first]]:
                    self._bench.progress(f"round {number + 1} of {most}: {row} {name}")
                    self._with_server(name, row, sizes, turn)

    def _start_sizes(self) -> Sizes:
        """Room for every entry, in memory and on the disk."""
        entries = self._scale.entries
        return Sizes(max(256, entries // 128), max(1024, 2 * entries * DISK_BYTES_AN_ENTRY >> 20), entries)

    def _with_server(self, name: str, row: str, sizes: Sizes, turn: Callable[[Server], None]) -> None:
        """One turn with a server of its own, of which nothing is left behind."""
        try:
            server = self._bench.server(name, sizes, on_disk=True)
        except Failed as problem:
            self._bench.problem(f"{name} {row}: {problem}")
            return
        try:
            server.start("/1k")
            turn(server)
        except (Failed, OSError) as problem:
            self._bench.results.invalid.update((name, cell) for cell in ROWS[row])
            self._bench.problem(f"{name} {row}: {problem}")
        finally:
            server.stop()
            # Before the next one begins: it shall not share the disk with what this one has left to write.
            remove(server.store)

    def _disk_hits(self, server: Server) -> None:
        objects, numbers = self._family("16k"), range(self._scale.hits_objects)
        self._fill(server, DISK_FILL, objects, numbers)
        for seed, cell in enumerate((DISK_FIRST, DISK_SECOND)):
            asked, sample = self._measured(server, lambda seed=seed: self._once(server, objects, numbers, seed))
            self._note(server, cell, sample)
            self._note_hits(server, cell, max(0.0, 1 - asked / len(numbers)))
        self._look_at(server, objects, numbers)

    def _miss_storm(self, server: Server) -> None:
        objects, numbers = self._family("16k"), range(self._scale.storm_objects)
        with peak_memory(server, self._bench.load_cpu) as peak:
            self._fill(server, STORM, objects, numbers)
        memory = self._bench.results.memory[server.contender.name]
        memory.storm_peak = max(peak[0], memory.storm_peak or 0)
        self._note_hits(server, STORM, self._look_at(server, objects, numbers))

    def _start(self, server: Server) -> None:
        """With few entries, then with many, so that the difference is what entries take."""
        objects, few, every = self._family("1k"), range(FEW_ENTRIES), range(self._scale.entries)
        self._once(server, objects, few)
        with_few = self._started_again(server, objects, few).memory
        self._once(server, objects, every[len(few) :])
        # A pass of hits, as trafficserver takes into its memory only what was asked for again.
        self._once(server, objects, every)
        server.rest()
        grown = server.memory_bytes() - with_few
        start = self._started_again(server, objects, every)
        more = len(every) - len(few)
        if server.contender.memory_tier:
            start.entry_in_memory = grown / more
            start.entry_on_disk = (start.memory - with_few) / more
        else:
            # Not by what it takes after the start, as nginx reads its folder only a minute later.
            start.entry_on_disk = grown / more
        self._bench.results.starts[server.contender.name] = start

    def _started_again(self, server: Server, objects: Objects, numbers: range) -> Start:
        """Stops the server and starts it again, and waits until all of a random sample comes from what it stored."""
        time.sleep(server.contender.seconds_to_keep)
        server.rest()
        server.stop()
        server.empty_access_log()
        start = Start(answered=server.start("/1k"))
        # No object twice: the first time may have stored it again.
        left = self._random.sample(numbers[SAMPLE:], min(len(numbers) - SAMPLE, MOST_SAMPLES * SAMPLE))
        pause = FIRST_PAUSE_SECONDS
        while left and start.hits_after is None and server.age() < START_SECONDS:
            looked = server.age()
            sample, left = left[:SAMPLE], left[SAMPLE:]
            hits = self._hits_in(server, objects, sample)
            if start.first_hits is None:
                start.first_hits = hits
            if hits == 1:
                start.hits_after = looked
            else:
                time.sleep(pause)
                pause = min(2 * pause, 1.0)
        # The same load after both starts, so that what connections leave behind cancels out.
        self._once(server, objects, numbers[:SAMPLE])
        server.rest()
        start.memory = server.memory_bytes()
        return start

    def _fill(self, server: Server, cell: str, objects: Objects, numbers: range) -> None:
        """Has every object stored, and counts what the server does for it behind the last answer too."""

        def ask() -> load.Load:
            seen = self._once(server, objects, numbers)
            server.rest()
            return seen

        asked, sample = self._measured(server, ask)
        # A few may have been asked for again at the end.
        if not len(numbers) <= asked <= len(numbers) + 100:
            raise Failed(f"the origin was asked {asked} times for {len(numbers)} objects")
        self._note(server, cell, sample)

    def _measured(self, server: Server, ask: Callable[[], load.Load]) -> tuple[int, Sample]:
        """How often the origin was asked meanwhile, and what it took."""
        asked_before, cpu_before = self._bench.origin_requests(), server.cpu_seconds()
        seen = ask()
        cpu = server.cpu_seconds() - cpu_before
        # Counting them is a request too.
        asked = self._bench.origin_requests() - asked_before - 1
        return asked, Sample(cpu * 1e6 / seen.requests, seen.requests / seen.seconds)

    def _note(self, server: Server, cell: str, sample: Sample) -> None:
        self._bench.results.turns.setdefault((server.contender.name, cell), []).append(sample)
        self._bench.results.note_load()

    def _note_hits(self, server: Server, cell: str, share: float) -> None:
        self._bench.results.hits.setdefault((server.contender.name, cell), []).append(share)

    def _once(self, server: Server, objects: Objects, numbers: range, seed: int | None = None) -> load.Load:
        seen = load.once(server.http, objects.path, numbers, self._bench.load_cpu, seed)
        if seen.data_bytes < seen.requests * OBJECT_SIZES[objects.kind]:
            raise Failed(f"{seen.requests} answers brought only {seen.data_bytes} bytes")
        return seen

    def _look_at(self, server: Server, objects: Objects, numbers: range) -> float:
        """The share of a random sample that came without the origin; fails where a body is not the object's."""
        return self._hits_in(server, objects, self._random.sample(numbers, min(SAMPLE, len(numbers))))

    def _hits_in(self, server: Server, objects: Objects, sample: Sequence[int]) -> float:
        before = self._bench.origin_requests()
        load.fetch_each(server.http, ((objects.at(number), objects.body(number)) for number in sample))
        asked = self._bench.origin_requests() - before - 1
        return 1 - asked / len(sample)

    def _family(self, kind: str) -> Objects:
        """Objects that nobody has asked for yet."""
        return Objects(kind, next(self._families))


def remove(folder: Path) -> None:
    """A folder with all that is in it, many files at a time: where the disk is told of every file that goes, one after
    the other would take minutes."""
    with ThreadPoolExecutor(REMOVERS) as pool:
        for here, _, names in os.walk(folder):
            pool.submit(_remove_files, [os.path.join(here, name) for name in names])
    shutil.rmtree(folder, ignore_errors=True)


def _remove_files(paths: Sequence[str]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            os.unlink(path)


@contextlib.contextmanager
def peak_memory(server: Server, cpu: int) -> Iterator[list[int]]:
    """The most bytes that the server takes while the body runs, as a list of one; looked at from `cpu`, a few times a
    second."""
    peak, over = [0], threading.Event()

    def watch() -> None:
        os.sched_setaffinity(0, {cpu})
        while not over.wait(PEAK_STEP_SECONDS):
            # One of its processes may end meanwhile.
            with contextlib.suppress(OSError):
                peak[0] = max(peak[0], server.memory_bytes())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()
