"""The table: a line for each comparison, on a terminal and in Markdown."""

import os
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HEADER = ("", "work", "cpus", "ours", "against", "ratio", "bar", "")


@dataclass(frozen=True)
class Line:
    """One line of the table. `bar`: the greatest value of `ratio` that is good enough."""

    row: str
    what: str
    count: int
    ours: str
    theirs: str
    ratio: float
    bar: float | None

    def mark(self) -> str:
        if self.bar is None:
            return ""
        return "ok" if self.ratio <= self.bar else "FALLS SHORT"


def line(
    row: str,
    what: str,
    count: int,
    ours: Sequence[float],
    other: tuple[str, Sequence[float]],
    bar: float | None,
) -> Line:
    """Seconds of ours against those of another, by their medians."""
    mine, theirs = statistics.median(ours), statistics.median(other[1])
    return Line(row, what, count, shown(mine), f"{other[0]} {shown(theirs)}", mine / theirs, bar)


def shown(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def machine() -> str:
    """What the figures were measured on, in one line."""
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(": ", 1)[1] for line in cpus if line.startswith("model name")), "?")
    memory = int(Path("/proc/meminfo").read_text().split()[1]) >> 20
    python = subprocess.run(
        ["/usr/bin/python3", "-V"], capture_output=True, text=True, check=True
    ).stdout.strip()
    linux = os.uname().release.partition("-")[0]
    return (
        f"{os.cpu_count()} x {model}, {memory} GiB, Linux {linux}, {python}, overlay with its "
        "upper layer on a tmpfs"
    )


def _cells(line: Line) -> tuple[str, ...]:
    bar = "" if line.bar is None else f"{line.bar:.2f}"
    numbers = (f"{line.ratio:.2f}", bar, line.mark())
    return (line.row, line.what, str(line.count), line.ours, line.theirs, *numbers)


def _row(cells: Sequence[str]) -> str:
    row, what, count, ours, theirs, ratio, bar, mark = cells
    measured = f"{count:>4} {ours:>12} {theirs:>26}"
    return f"{row:4} {what:52} {measured} {ratio:>6} {bar:>6} {mark}".rstrip()


def header() -> str:
    return _row(HEADER)


def as_text(line: Line) -> str:
    return _row(_cells(line))


def as_markdown(found: Sequence[Line], times: str) -> str:
    rows = [HEADER, ("---",) * len(HEADER), *(_cells(line) for line in found)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return f"`make bench` on {machine()}, {times}:\n\n{table}\n"


def into(path: Path, table: str) -> None:
    """Put the table between the two marks of a Markdown file."""
    begin, end = "<!-- measurements: begin -->\n", "<!-- measurements: end -->"
    text = path.read_text()
    head, _, rest = text.partition(begin)
    tail = rest.partition(end)[2]
    if not tail:
        raise SystemExit(f"{path}: no marks {begin.strip()} and {end} in it")
    path.write_text(f"{head}{begin}{table}{end}{tail}")
