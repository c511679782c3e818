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


@dataclass(frozen=True)
class Sample:
    """One contender in one cell: a turn, or the medians of its turns."""

    cpu_micros: float
    requests_a_second: float
    spread: float = 0.0


@dataclass
class Memory:
    """Bytes of one contender; `None` where it was not measured."""

    idle: int | None = None
    after_hits: int | None = None
    with_connections: int | None = None
    a_connection: float | None = None


@dataclass
class Results:
    """All that a run found out; contenders are in the order of `memory`, which names each."""

    cells: Sequence[str]
    connections: int
    memory: dict[str, Memory] = field(default_factory=dict)
    contenders: dict[str, str] = field(default_factory=dict)
    """Versions, and what a reader has to know of each."""
    turns: dict[tuple[str, str], list[Sample]] = field(default_factory=dict)
    invalid: set[tuple[str, str]] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)

    def summary(self, name: str, cell: str) -> Sample | None:
        turns = self.turns.get((name, cell))
        if not turns or (name, cell) in self.invalid:
            return None
        cpu = [turn.cpu_micros for turn in turns]
        rate = statistics.median(turn.requests_a_second for turn in turns)
        return Sample(statistics.median(cpu), rate, (max(cpu) - min(cpu)) / statistics.median(cpu))


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
    ("Spread of the CPU figure over the rounds ((highest - lowest) / median)", lambda mine, _: f"{mine.spread:.0%}"),
)


def markdown(results: Results, facts: Mapping[str, str]) -> str:
    """The whole report; `facts` are what report.md asks for and only the caller knows."""
    tables = [_cells_table(results, title, show) for title, show in TABLES] if results.turns else []
    template = Template(Path(__file__).with_name("report.md").read_text())
    text = template.substitute(
        facts,
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=f"{_cpu_model()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        loads=f"{min(results.loads):.1f} to {max(results.loads):.1f}" if results.loads else "unknown",
        contenders="\n".join(f"- {name}: {text}" for name, text in results.contenders.items()),
        tables="\n\n".join([*tables, _memory_table(results)]),
    )
    if results.problems:
        lines = (problem.replace("\n", "\n      ") for problem in results.problems)
        text += "\n## Problems\n\n" + "".join(f"- {line}\n" for line in lines)
    return text


def _cells_table(results: Results, title: str, show: Show) -> str:
    rows = [["", *(_heading(cell) for cell in results.cells)]]
    for name in results.memory:
        row = [name]
        for cell in results.cells:
            mine = results.summary(name, cell)
            absent = "invalid" if (name, cell) in results.invalid else "-"
            row.append(show(mine, results.summary(BASE, cell)) if mine else absent)
        rows.append(row)
    return f"## {title}\n\n{_table(rows)}"


def _memory_table(results: Results) -> str:
    rows = [["MiB", "idle", "after the hits", f"{results.connections} idle TLS connections", "a connection, KiB"]]
    for name, memory in results.memory.items():
        sizes = (memory.idle, memory.after_hits, memory.with_connections)
        each = "-" if memory.a_connection is None else f"{memory.a_connection / 1024:.1f}"
        rows.append([name, *("-" if size is None else f"{size / 2**20:.1f}" for size in sizes), each])
    columns = 5 if results.connections else 3
    return f"## Memory\n\n{_table([row[:columns] for row in rows])}"


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
