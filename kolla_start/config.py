"""kolla_config: the command for people and their editors. Part of no start."""

import argparse
import json
import sys
from typing import NoReturn

from kolla_start import log
from kolla_start.document.load import examine, read
from kolla_start.document.places import lines
from kolla_start.errors import EXIT_OK, EXIT_REFUSED, Refused


def main() -> NoReturn:
    """Entry of kolla_config. Exits 0, or 1 where a document is wrong, or 2 for bad usage."""
    parser = argparse.ArgumentParser(
        prog="kolla_config", description="Work with the documents (config.json) of containers."
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    verb = verbs.add_parser("validate", help="say everything that is wrong with documents")
    verb.add_argument("files", nargs="+", metavar="FILE", help="JSON, or YAML if it ends in .yaml")
    verb.set_defaults(run=_validate)
    verb = verbs.add_parser("schema", help="print the JSON Schema of a document")
    verb.set_defaults(run=_schema)
    arguments = parser.parse_args()
    sys.exit(arguments.run(arguments))


def _validate(arguments: argparse.Namespace) -> int:
    """Unknown keys count, in every section: who validates wants to hear of a slip of the pen."""
    code = EXIT_OK
    for path in arguments.files:
        try:
            text = read(path)
            faults = examine(path, text, strict=True)
        except Refused as error:
            text, faults = error.text, error.faults
        for line in lines(path, text, faults):
            print(log.printable(line), file=sys.stderr)
        if faults:
            code = EXIT_REFUSED
        else:
            print(f"{log.printable(path)}: valid")
    return code


def _schema(arguments: argparse.Namespace) -> int:
    from kolla_start.document import models  # pydantic: nothing else here needs it

    print(json.dumps(models.schema(), indent=2, ensure_ascii=False))
    return EXIT_OK


if __name__ == "__main__":
    main()
