"""The results as Markdown, in the form of benches/RESULTS.md."""

import datetime
import os
import platform
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

BASE = "nginx"
HEADINGS = {"h1": "http/1.1", "h1s": "http/1.1 TLS", "h2": "h2 TLS", "miss": "miss"}
DISK_FILL, DISK_FIRST, DISK_SECOND = "disk-fill", "disk-first", "disk-second"
STORM, START = "miss-storm", "start"
DURABLE_HEADINGS = {
    DISK_FILL: "disk: miss pass",
    DISK_FIRST: "disk: first pass of hits",
    DISK_SECOND: "disk: second pass of hits",
    STORM: "miss storm",
}

HANDSHAKE_HEADINGS = {
    "tls-full": "full, X25519",
    "tls-resumed": "resumed, X25519",
    "tls-mlkem": "full, X25519MLKEM768 where known",
}


@dataclass(frozen=True)
class Sample:
    """One contender in one cell: a turn, or the medians of its turns."""

    cpu_micros: float
    requests_a_second: float
    spread: float | None = None
    """Between turns; `None` where there was but one."""


@dataclass
class Memory:
    """Bytes of one contender; `None` where it was not measured."""

    idle: int | None = None
    after_hits: int | None = None
    with_connections: int | None = None
    a_connection: float | None = None
    storm_peak: int | None = None


@dataclass
class Start:
    """A start over a cache that is there already: seconds since the program began, and bytes."""

    answered: float
    hits_after: float | None = None
    """When a random sample was begun that came from the cache whole; `None` if that never was."""
    first_hits: float | None = None
    """The share of the first sample that came from the cache."""
    memory: int = 0
    entry_in_memory: float | None = None
    """Growth for each entry that is in memory and, as all are, on disk."""
    entry_on_disk: float | None = None


@dataclass
class Results:
    """All that a run found out; contenders are in the order of `memory`, which names each."""

    cells: Sequence[str]
    connections: int
    handshake_cells: Sequence[str] = ()
    durable_cells: Sequence[str] = ()
    entries: int = 0
    """How many there are at the start."""
    memory: dict[str, Memory] = field(default_factory=dict)
    contenders: dict[str, str] = field(default_factory=dict)
    """Versions, and what a reader has to know of each."""
    turns: dict[tuple[str, str], list[Sample]] = field(default_factory=dict)
    invalid: set[tuple[str, str]] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    groups: dict[tuple[str, str], str] = field(default_factory=dict)
    """Of handshakes: the group of the key exchange."""
    hits: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    """Of the durable tier: the share that came without the origin, in each turn."""
    starts: dict[str, Start] = field(default_factory=dict)

    def note_load(self) -> None:
        """To be called now and then while the run goes on."""
        self.loads.append(os.getloadavg()[0])

    def summary(self, name: str, cell: str) -> Sample | None:
        turns = self.turns.get((name, cell))
        if not turns or (name, cell) in self.invalid:
            return None
        cpu = [turn.cpu_micros for turn in turns]
        rate = statistics.median(turn.requests_a_second for turn in turns)
        spread = (max(cpu) - min(cpu)) / statistics.median(cpu) if len(cpu) > 1 else None
        return Sample(statistics.median(cpu), rate, spread)


Show = Callable[[Sample, Sample | None], str]
"""A cell's text, from its figures and those of `BASE`."""

TABLES: tuple[tuple[str, Show], ...] = (
    ("CPU microseconds a request (median of the rounds)", lambda mine, _: f"{mine.cpu_micros:.1f}"),
    (
        f"CPU efficiency ({BASE}'s microseconds / the server's; above 1 is cheaper)",
        lambda mine, base: f"{base.cpu_micros / mine.cpu_micros:.2f}" if base else "-",
    ),
    ("Requests a second (median of the rounds)", lambda mine, _: f"{mine.requests_a_second:.0f}"),
    (
        f"Requests a second (the server's / {BASE}'s)",
        lambda mine, base: f"{mine.requests_a_second / base.requests_a_second:.2f}" if base else "-",
    ),
    (
        "Spread of the CPU figure over the rounds ((highest - lowest) / median)",
        lambda mine, _: "-" if mine.spread is None else f"{mine.spread:.0%}",
    ),
)


def markdown(results: Results, facts: Mapping[str, str]) -> str:
    """The whole report; `facts` are what report.md asks for and only the caller knows."""
    tables = _cells_tables(results, "", {cell: _heading(cell) for cell in results.cells})
    shaken = {cell: HANDSHAKE_HEADINGS[cell] for cell in results.handshake_cells}
    if results.groups:
        tables += _cells_tables(results, "TLS 1.3 handshakes, ECDSA P-256, in place of requests: ", shaken)
        tables.append(_groups_table(results))
    if any(memory.idle for memory in results.memory.values()):
        tables.append(_memory_table(results))
    durable = {cell: DURABLE_HEADINGS[cell] for cell in results.durable_cells if cell in DURABLE_HEADINGS}
    if durable:
        tables += _cells_tables(results, "Durable tier: ", durable)
        tables.append(_hits_table(results))
    if START in results.durable_cells:
        tables.append(_start_table(results))
    template = Template(Path(__file__).with_name("report.md").read_text())
    text = template.substitute(
        facts,
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=f"{_cpu_model()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        loads=f"{min(results.loads):.1f} to {max(results.loads):.1f}" if results.loads else "unknown",
        contenders="\n".join(f"- {name}: {text}" for name, text in results.contenders.items()),
        tables="\n\n".join(tables),
    )
    if results.durable_cells:
        text += "\n" + Template(Path(__file__).with_name("durable.md").read_text()).substitute(facts)
    if results.problems:
        lines = (problem.replace("\n", "\n      ") for problem in results.problems)
        text += "\n## Problems\n\n" + "".join(f"- {line}\n" for line in lines)
    return text


def _cells_tables(results: Results, prefix: str, headings: Mapping[str, str]) -> list[str]:
    """All of `TABLES`, or none of them where no cell has a turn."""
    if not any(cell in headings for _, cell in results.turns):
        return []
    return [_cells_table(results, prefix + title, headings, show) for title, show in TABLES]


def _cells_table(results: Results, title: str, headings: Mapping[str, str], show: Show) -> str:
    rows = [["", *headings.values()]]
    for name in results.memory:
        row = [name]
        for cell in headings:
            mine = results.summary(name, cell)
            absent = "invalid" if (name, cell) in results.invalid else "-"
            row.append(show(mine, results.summary(BASE, cell)) if mine else absent)
        rows.append(row)
    return f"## {title}\n\n{_table(rows)}"


def _groups_table(results: Results) -> str:
    rows = [["", *(HANDSHAKE_HEADINGS[cell] for cell in results.handshake_cells)]]
    for name in results.memory:
        rows.append([name, *(results.groups.get((name, cell), "-") for cell in results.handshake_cells)])
    return f"## TLS 1.3 handshakes: the key exchange that was agreed on\n\n{_table(rows)}"


def _memory_table(results: Results) -> str:
    rows = [["MiB", "idle", "after the hits", f"{results.connections} idle TLS connections", "a connection, KiB"]]
    for name, memory in results.memory.items():
        sizes = (memory.idle, memory.after_hits, memory.with_connections)
        each = "-" if memory.a_connection is None else f"{memory.a_connection / 1024:.1f}"
        rows.append([name, *map(_mib, sizes), each])
    columns = 5 if results.connections else 3
    return f"## Memory\n\n{_table([row[:columns] for row in rows])}"


def _hits_table(results: Results) -> str:
    heading = ["", "hits, first pass", "hits, second pass", "stored after the storm", "most MiB in the storm"]
    rows = [heading]
    for name, memory in results.memory.items():
        shares = (results.hits.get((name, cell)) for cell in (DISK_FIRST, DISK_SECOND, STORM))
        # The lowest: what a cache lost once, it can lose.
        shown = (_share(min(share)) if share else "-" for share in shares)
        rows.append([name, *shown, _mib(memory.storm_peak)])
    return f"## Durable tier: what was stored, and memory\n\n{_table(rows)}"


def _start_table(results: Results) -> str:
    heading = ["", "port answers, s", "all hits, s", "hits at first", "MiB then", "bytes an entry: memory", "disk only"]
    rows = [heading]
    for name in results.memory:
        start = results.starts.get(name)
        if not start:
            rows.append([name, *(len(heading) - 1) * ["invalid" if (name, START) in results.invalid else "-"]])
            continue
        after = "never" if start.hits_after is None else f"{start.hits_after:.2f}"
        each = ("-" if size is None else f"{size:.0f}" for size in (start.entry_in_memory, start.entry_on_disk))
        first = _share(start.first_hits or 0.0)
        rows.append([name, f"{start.answered:.2f}", after, first, _mib(start.memory), *each])
    return f"## Durable tier: start with {results.entries} entries of 1 KiB\n\n{_table(rows)}"


def _share(share: float) -> str:
    """Rounded down: only what is whole is called 100%."""
    return f"{int(share * 1000) / 10:.1f}%".replace(".0%", "%")


def _mib(size: int | None) -> str:
    return "-" if size is None else f"{size / 2**20:.1f}"


def _heading(cell: str) -> str:
    protocol, _, size = cell.partition("-")
    return f"{HEADINGS[protocol]} {size}".strip()


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = []
    for row in (rows[0], rule, *rows[1:]):
        others = (text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))
        lines.append("| " + " | ".join([row[0].ljust(widths[0]), *others]) + " |")
    return "\n".join(lines)


def _cpu_model() -> str:
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return model.group(1) if model else platform.machine()
