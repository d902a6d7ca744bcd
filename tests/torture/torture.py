"""`make torture`: what the tests only sample, in numbers. Prints a table; exit code 1 if lost.

TORTURE=0.01 makes every number a hundredth: what CI runs. At 1, the default: a fault at every call
of every case, every world, 1,000 races and a minute, 50,000 documents, 1,000 replacements, 2,000
histories, 150 mutants; hours on two cores. At 10 every fault at every call: a day.
"""

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import parts
from parts import Row, note, others
from sandbox import unusable

PARTS: dict[str, Callable[[float], list[Row]]] = {
    "planted": parts.planted,
    "product": parts.imagined,
    "stopped": parts.stopped,
    "races": parts.races,
    "secrets": parts.secrets,
    "documents": parts.fuzzed,
    "bounds": parts.bounded,
    "faults": parts.broken,
    "mutants": parts.mistakes,
    "world": parts.worlds,
    "histories": parts.histories,
    "power": parts.powerless,
}


def main() -> int:
    parser = argparse.ArgumentParser(description="make torture")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--scale", type=float, default=float(os.environ.get("TORTURE", "1")))
    asked = parser.parse_args()
    reason = unusable()
    if reason:
        print(f"torture: {reason}", file=sys.stderr)
        return 1
    rows: list[Row] = []
    for name in asked.parts or PARTS:
        note(f"{name}, scale {asked.scale:g}")
        began = time.monotonic()
        try:
            rows += PARTS[name](asked.scale)
        except Exception as problem:  # the rest of the table is worth having
            traceback.print_exc()
            rows.append(Row(name, 1, 1, note=f"the harness itself: {problem!r}"))
        note(f"{name}: {time.monotonic() - began:.0f} s")
    names = [subject.name for subject in others()]
    columns = "".join(f"{name:>10}" for name in names)
    print(f"\n{'kind':48}{'tried':>8}{'lost':>6}{columns}")
    for row in rows:
        theirs = "".join(f"{row.others.get(name, '-'):>10}" for name in names)
        print(f"{row.kind:48}{row.tried:8}{row.lost:6}{theirs}  {row.note}")
    return int(any(row.lost for row in rows))


if __name__ == "__main__":
    sys.exit(main())
