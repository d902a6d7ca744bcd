"""What is generated from the models is current, and fit for the people who read it."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from kolla_start.document import generate, models

ROOT = Path(generate.__file__).parents[2]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("kolla_start/document/table.py", generate.table()),
        ("schemas/config.schema.json", generate.schema()),
    ],
)
def test_is_current(path: str, text: str) -> None:
    current = (ROOT / path).read_text()
    assert current == text, "stale: python -m kolla_start.document.generate"


def test_check_says_so() -> None:
    command = [sys.executable, "-m", "kolla_start.document.generate", "--check"]
    assert subprocess.run(command, check=False).returncode == 0


def test_schema_is_a_schema() -> None:
    schema = models.schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(schema)


def objects() -> list[tuple[str, dict[str, Any]]]:
    schema = models.schema()
    return [("Document", schema), *schema["$defs"].items()]


def test_an_editor_has_something_to_show() -> None:
    for name, part in objects():
        assert part["title"], name
        assert part["description"], name
        for key, value in part["properties"].items():
            for what in ("title", "description", "examples"):
                assert value.get(what), f"{name}.{key}: {what}"


def test_examples_are_good() -> None:
    schema = models.schema()
    for _, part in objects():
        for value in part["properties"].values():
            checker = Draft202012Validator({**value, "$defs": schema["$defs"]})
            for example in value["examples"]:
                checker.validate(example)


FORMS = {
    name: (form.schema["pattern"], form.predicate)
    for name, kind in vars(models).items()
    for form in getattr(kind, "__metadata__", ())
    if isinstance(form, models.Form) and form.predicate and "pattern" in form.schema
}

WORDS = """
0600 600 0o600 0o0600 0O600 60 06000 0680 o600 0o60 -600 +600 1777
root root: root:root :root : a:b:c 0 42436:42436 a.b a-b:c_d
/ // /a /a/ /a/. /a/.. /. /.. /... /..a /a../b /a/./b /./a /a/../b a ./a ../a /a*b /[ab]c /a?
/a/*/ /*/a /{a,b} CHOWN CAP_CHOWN chown CAP_ CAP_CAP_CHOWN BPF NET_BIND_SERVICE X
"""
ODD = ["", " ", "\t", "\n", " a", "a b", "/a b", "/a\nb", "/a\n/../b", "0600 ", "0600\n", "a\n:b"]


@pytest.mark.parametrize("name", FORMS)
def test_pattern_and_predicate_agree(name: str) -> None:
    """But for NUL and half surrogates, which only some of the patterns can name."""
    written, predicate = FORMS[name]
    # ECMA-262's $ is Python's \Z.
    pattern = re.compile(re.sub(r"\$(?![\]])", r"\\Z", written))
    for value in (*WORDS.split(), *ODD):
        assert bool(pattern.search(value)) == (predicate(value) is None), repr(value)
