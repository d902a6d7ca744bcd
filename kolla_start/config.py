"""kolla_config: the command for people. Never part of a start."""

import argparse
import json
import sys

from kolla_start import explain, log
from kolla_start.document import load
from kolla_start.errors import Fault, Refused


def validate(paths: list[str]) -> int:
    """Say for each document that it is valid, or everything that is wrong with it."""
    bad = 0
    for path in paths:
        found: list[str] = []
        try:
            config = load(path)
        except Refused as error:
            if error.document is None:
                found = [str(fault) for fault in error.faults]
            else:
                found = explain.lines(path, _with_unknown(path, error.faults))
        else:
            if config.unknown:
                found = explain.lines(path, _with_unknown(path, []))
        for line in found:
            print(log.printable(line), file=sys.stderr)
        if found:
            bad += 1
        else:
            print(f"{path}: valid")
    return 1 if bad else 0


def _with_unknown(path: str, faults: list[Fault]) -> list[Fault]:
    """The faults and, which a start only warns of, the unknown keys of the other sections."""
    with open(path, "rb") as file:
        strict = explain.all_faults(path, file.read())
    known = {(fault.loc, fault.message) for fault in faults}
    return faults + [fault for fault in strict if (fault.loc, fault.message) not in known]


def schema() -> int:
    """Print the JSON Schema of a document."""
    from kolla_start import generate

    print(json.dumps(generate.schema(), indent=2, ensure_ascii=False))
    return 0


def main() -> int:
    """Entry of kolla_config: exit code 0, or 1 where a document is not valid, 2 for bad usage."""
    parser = argparse.ArgumentParser(
        prog="kolla_config", description="Work with the config.json of Kolla containers."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    check = verbs.add_parser("validate", help="say everything that is wrong with documents")
    check.add_argument("files", nargs="+", metavar="FILE", help="a config.json or config.yaml")
    verbs.add_parser("schema", help="print the JSON Schema that editors and generators can use")
    asked = parser.parse_args()
    return validate(asked.files) if asked.verb == "validate" else schema()


if __name__ == "__main__":
    sys.exit(main())
