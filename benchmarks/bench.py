"""`make bench`: how long whole runs take, beside the programs they are measured against.

    bench.py [--quick] [--processors 1] [--only S5] [--markdown] [--into README.md]

This is the command; `rows` has a function for each row of the table, `at_once` the one of a whole
node, `container` what they run in, `checks` what is looked at after every run, `table` what is
printed. README.md here says what the rows mean; nothing must be made faster by leaving out what a
container would see.
"""

import argparse
import os
import sys
from pathlib import Path

from at_once import s12
from container import Bench, Broken, missing
from rows import ROWS, Repeats
from sandbox import Sandbox, Unusable
from table import Line, as_markdown, as_text, header, into, machine

ALL = {**ROWS, "S12": s12}


def measure(names: list[str], counts: tuple[int, ...], repeats: Repeats) -> list[Line]:
    """Every line of these rows, printed as it is found. Raises Unusable and Broken."""
    found = []
    with Sandbox() as box:
        bench = Bench(box, counts)
        try:
            for name in names:
                for line in ALL[name](bench, repeats):
                    print(as_text(line), flush=True)
                    found.append(line)
        finally:
            bench.close()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", action="append", metavar="ROW", choices=list(ALL))
    parser.add_argument("--quick", action="store_true", help="5 and 1 runs, not 15 and 5")
    parser.add_argument("--processors", choices=("1", "2", "both"), default="both")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown too")
    parser.add_argument("--into", type=Path, metavar="FILE", help="put the table into a file")
    asked = parser.parse_args()
    reason = missing()
    if reason:
        print(f"bench: {reason}", file=sys.stderr)
        return 1
    counts = (1, 2) if asked.processors == "both" else (int(asked.processors),)
    given = len(os.sched_getaffinity(0))
    if given < max(counts):
        print(f"bench: {given} processor here; use --processors 1", file=sys.stderr)
        return 1
    repeats = (5, 1) if asked.quick else (15, 5)
    times = f"medians of {repeats[0]} runs in turn, {repeats[1]} of the long ones"
    print(f"{machine()}\n{times}\n\n{header()}")
    try:
        found = measure(asked.only or list(ALL), counts, repeats)
    except (Unusable, Broken) as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 1
    short = sum(line.mark() == "FALLS SHORT" for line in found)
    barred = sum(line.bar is not None for line in found)
    print(f"\n{short} of {barred} bars fall short" if short else "\nevery bar is met")
    if asked.markdown:
        print(f"\n{as_markdown(found, times)}")
    if asked.into:
        into(asked.into, as_markdown(found, times))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
