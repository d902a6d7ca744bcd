"""kolla_config: what people and their editors ask of the document room."""

import json
from pathlib import Path

from samples import kolla_config

from kolla_start.document import models


def test_validate(tmp_path: Path) -> None:
    good, bad, missing = (str(tmp_path / name) for name in ("good.json", "bad.yaml", "no.json"))
    Path(good).write_text('{"command": "a"}')
    Path(bad).write_text("command: a\nuesr: b\n")
    done = kolla_config("validate", good, bad, missing)
    assert done.returncode == 1
    assert done.stdout == f"{good}: valid\n"
    assert done.stderr.splitlines() == [
        f"{bad}:2:1: uesr: unknown key; did you mean user?",
        f"{missing}: does not exist; name a file that can be read",
    ]
    assert kolla_config("validate", good).returncode == 0


def test_schema() -> None:
    done = kolla_config("schema")
    assert done.returncode == 0
    assert json.loads(done.stdout) == models.schema()
