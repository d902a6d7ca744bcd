"""The judge, the models and the schema say the same of any document."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from agreement import agree
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from samples import CONFIG, GOOD

from kolla_start.document import models
from kolla_start.document.judge import judge
from kolla_start.document.load import examine
from kolla_start.document.text import parse_json
from kolla_start.errors import Loc

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(0, 9999),
    st.floats(allow_nan=False),
    st.sampled_from(
        [
            "", " ", "a", "root", "root:", "a:b", ":", "0600", "0o644", "888", "/", "/etc", "/etc/",
            "/a/../b", "relative", "/a//b/", "/a*", "true", "(", "a$", "CHOWN", "CAP_BPF", "chown",
            "\0", "\ud800", "[]", '["a"]', "[a", "/run_command", CONFIG, "4294967295",
            f"{CONFIG}/a.conf", "/etc/a", "True", "yes", "false", "/dev/null", 420,
        ]
    ),
    st.text(max_size=4),
    st.lists(st.sampled_from(["a", "", "CHOWN", "(", 1, None]), max_size=3),
    st.just({}),
)  # fmt: skip
names = st.one_of(
    st.sampled_from(
        [
            "command", "config_files", "directories", "files", "permissions", "user",
            "capabilities", "no_new_privileges", "source", "dest", "owner", "perm", "optional",
            "merge", "preserve_properties", "path", "recurse", "exclude", "_", "$x", "prem",
            "\ud800", "_\ud800", "",
        ]
    ),
    st.integers(0, 1),  # YAML knows keys that are no strings
)  # fmt: skip


@st.composite
def documents(draw: st.DrawFn) -> Any:
    """A good document with a few changes, most often one."""
    content = copy.deepcopy(draw(st.sampled_from(list(GOOD.values()))))
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2, 3]))):
        places: list[Any] = [content]
        for section in content.values():
            if isinstance(section, list):
                places += [item for item in section if isinstance(item, dict)]
        place = draw(st.sampled_from(places))
        kind = draw(st.sampled_from(["set", "set", "set", "remove"]))
        key = draw(st.one_of(st.sampled_from(list(place) or ["a"]), names))
        if kind == "remove":
            place.pop(key, None)
        else:
            place[key] = draw(values)
    return content


SCHEMA = Draft202012Validator(models.schema())


@settings(max_examples=800, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(documents(), documents(), documents(), values))
@example({"command": "a", "x\ud800": 1})
@example({"command": "a", 1: 1})
def test_judge_models_and_schema_agree(content: Any) -> None:
    verdict = judge(content)
    assert agree(content) == (not verdict.faults)
    if not verdict.faults:
        unknown = {remark.loc for remark in verdict.remarks if remark.at_key}
        assert unknown == set(strangers(models.Document.model_validate(content)))
        assert [error.message for error in SCHEMA.iter_errors(content)] == []


def strangers(model: models.Section, loc: Loc = ()) -> Iterator[Loc]:
    """The keys that the models do not know, and took."""
    yield from ((*loc, key) for key in model.model_extra or ())
    for name in type(model).model_fields:
        entries = getattr(model, name)
        for index, item in enumerate(entries if isinstance(entries, list) else ()):
            if isinstance(item, models.Section):
                yield from strangers(item, (*loc, name, index))


def no_constant(name: str) -> None:
    raise ValueError(name)


@settings(max_examples=300, deadline=None)
@given(st.one_of(documents(), st.recursive(values, st.lists)))
def test_our_json_is_json(content: Any) -> None:
    text = json.dumps(content)
    try:
        wanted = json.loads(text, parse_constant=no_constant)
    except ValueError:
        wanted = ValueError
    try:
        found = parse_json(text)
    except ValueError:
        found = ValueError
    # The one thing that json.dumps can write and we refuse is the keys "1" and 1 in one object.
    assert found == wanted or found is ValueError


@pytest.mark.parametrize("key", ["a\0b", "\x1b[2J", "x" * 5000, "\ud800"])
def test_strange_unknown_keys_are_judged_alike(key: str) -> None:
    text = json.dumps({"command": "x", key: 1})
    accepted = not judge(parse_json(text)).faults
    assert accepted == (not examine("config.json", text))
    assert accepted == (key != "\ud800")
