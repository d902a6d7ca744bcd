"""Where everything stands in a text: held against json and PyYAML, who are asked one by one."""

import json
import random
from collections.abc import Iterator
from typing import Any

import fuzz
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kolla_start.document import json_text, places
from kolla_start.document.load import examine
from kolla_start.document.nodes import Node, Unreadable, duplicates, find
from kolla_start.document.text import parse_json
from kolla_start.errors import Fault, Loc

CORPUS = fuzz.corpus()


def refuse_constant(name: str) -> None:
    raise ValueError(name)


def every(node: Node, loc: Loc = ()) -> Iterator[tuple[Loc, int | None, Node]]:
    """Each value of a tree: its place in the document, its key's in the text, its node."""
    yield loc, None, node
    for part, at, inner in node.members:
        for place, key, found in every(inner, (*loc, part)):
            yield place, at if found is inner else key, found


# --- against the json module ----------------------------------------------------------------------

texts = st.randoms(use_true_random=True).map(lambda rng: fuzz.mutated(rng, CORPUS))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner,
                                                                max_size=4),
    max_leaves=20,
)  # fmt: skip
layouts = st.fixed_dictionaries(
    {
        "indent": st.sampled_from([None, 0, 1, "\t", " \r\n\t"]),
        "separators": st.sampled_from([None, (",", ":"), (" ,\r", "\n:\t")]),
        "ensure_ascii": st.booleans(),
    }
)


@settings(max_examples=300, deadline=None)
@given(values, layouts)
def test_each_value_is_read_again_from_its_place(value: Any, layout: dict[str, Any]) -> None:
    text = json.dumps(value, **layout)
    read = json.JSONDecoder().raw_decode
    root = json_text.nodes(text)
    count = 0
    for loc, key, node in every(root):
        inside = value
        for part in loc:
            inside = inside[part]
        # A number that is read from its middle would be another one.
        found, end = read(text, node.at)
        assert found == inside
        assert not node.written or node.written == text[node.at : end]
        if key is not None and isinstance(loc[-1], str):
            assert read(text, key)[0] == loc[-1]
        assert find(root, loc) == (node, key, True)
        count += 1
    assert count == sum(1 for _ in inner_values(value))


def inner_values(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from inner_values(inner)


# What a snippet of JSON can be made of, so that few texts are quite good or quite bad.
pieces = st.lists(
    st.sampled_from(
        [
            "{", "}", "[", "]", ",", ":", '"a"', '"', "\\", '"\\u12', '"\\ud83d\\ude00"', "\\n",
            "0", "-", "1", "12", ".5", "1.", "e9", "1e+", "-0", "00", "0o644", "true", "null",
            "nul", "NaN", "-Infinity", " ", "\n", "\t", "\r", "\x00", "\u2028", "é", '{"a":',
            "[1,", '"b":2',
        ]
    ),
    max_size=9,
).map("".join)  # fmt: skip

# Where ours points elsewhere than json does: at a comma too many, which older versions pass over;
# at the first digit of a mode; at the beginning of an escape or of its string.
ELSEWHERE = ("a comma before", "is no number", "a backslash", "is no JSON;")


@settings(max_examples=2000, deadline=None)
@given(st.one_of(pieces, pieces, texts))
def test_what_json_reads_is_read_and_what_it_refuses_is_refused_there(text: str) -> None:
    try:
        json.loads(text, parse_constant=refuse_constant)
    except ValueError as problem:
        with pytest.raises(Unreadable) as refused:
            json_text.nodes(text)
        fault = refused.value.fault
        ours = any(words in fault.message for words in ELSEWHERE)
        if isinstance(problem, json.JSONDecodeError) and not ours and "\\u" not in problem.msg:
            assert fault.place == problem.pos, fault.message
    else:
        root = json_text.nodes(text)
        # The parser of a start refuses what this one finds twice, and nothing else.
        twice = list(duplicates(root))
        try:
            parse_json(text)
        except ValueError:
            assert twice
        else:
            assert not twice


@pytest.mark.parametrize("depth", [3, 100_000])
def test_deep_nesting_needs_no_stack(depth: int) -> None:
    text = "[" * depth + "1" + "]" * depth
    node = json_text.nodes(text)
    for _ in range(depth):
        ((_, _, node),) = node.members
    assert (node.at, node.written) == (depth, "1")
    with pytest.raises(Unreadable) as refused:
        json_text.nodes(text[:-1])
    assert refused.value.fault.place == len(text) - 1


# --- against PyYAML -------------------------------------------------------------------------------


def composed(text: str) -> yaml.Node | None:
    """PyYAML's nodes of a JSON text; None where YAML cannot read it."""
    # What JSON allows in a string and YAML does not, or takes for a line end; one for one, so
    # that columns hold.
    plain = yaml.reader.Reader.NON_PRINTABLE.sub("?", text.replace("\t", " "))
    for char in "\x85\u2028\u2029\ufeff":
        plain = plain.replace(char, "?")
    try:
        return yaml.compose(plain)
    except (yaml.YAMLError, RecursionError):
        return None


def pairs(ours: Node, theirs: yaml.Node) -> Iterator[tuple[int, yaml.Mark]]:
    """Each place that we know, and the mark that PyYAML has there."""
    yield ours.at, theirs.start_mark
    if isinstance(theirs, yaml.SequenceNode):
        assert len(ours.members) == len(theirs.value)
        for (_, _, inner), item in zip(ours.members, theirs.value, strict=True):
            yield from pairs(inner, item)
    elif isinstance(theirs, yaml.MappingNode):
        assert len(ours.members) == len(theirs.value)
        for (_, at, inner), (key, item) in zip(ours.members, theirs.value, strict=True):
            yield at, key.start_mark
            yield from pairs(inner, item)
    else:
        assert not ours.members


def compare(text: str) -> int:
    """How many places were compared; 0 where one of the two cannot read the text."""
    try:
        root = json_text.nodes(text)
    except Unreadable:
        return 0
    theirs = composed(text)
    if theirs is None:
        return 0
    found = sorted((at, mark.line + 1, mark.column + 1) for at, mark in pairs(root, theirs))
    said = places.lines("", text, [Fault((), "x", at) for at, _, _ in found])
    assert said == [f":{line}:{column}: x" for _, line, column in found], text
    return len(found)


@pytest.mark.parametrize("indent", [None, 4, "\t"])
def test_places_of_every_template_are_those_of_yaml(indent: int | str | None) -> None:
    for document in CORPUS:
        text = json.dumps(document, indent=indent)
        for variant in (text, text.replace("\n", "\r\n"), text.replace("\n", "\r")):
            assert compare(variant) > 1


def test_places_of_mutated_documents_are_those_of_yaml() -> None:
    rng = random.Random(0)
    texts = [fuzz.mutated(rng, CORPUS) for _ in range(600)]
    assert sum(compare(text) > 0 for text in texts) > 300


def test_places_in_yaml_are_those_of_yaml() -> None:
    text = "# one\ncommand: a\nfiles:\n- {path: x, 'owner': b, perm: 0644}\n- *no\n".replace(
        "*no", "&a {path: /a}"
    )
    assert places.lines("a.yml", text, examine("a.yml", text)) == [
        "a.yml:4:10: files[0].path: 'x' is not absolute; begin it with /",
        'a.yml:4:31: files[0].perm: is a number: YAML reads an unquoted 0644 as 420; write "0644"',
        "a.yml:5:3: files[1].owner: is missing; add it",
        "a.yml:5:3: files[1].perm: is missing; add it",
    ]


# --- lines ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("x", 1, 1),
        ("\nx", 2, 1),
        ("\r\n x", 2, 2),
        ("\r\rx", 3, 1),
        ("\n\r\n\rx", 4, 1),
        # What only some programs take for the end of a line is a character.
        ("\u2028\x85\x0cx", 1, 4),
        ("é\U0001f600x", 1, 3),
    ],
)
def test_lines_and_columns_as_editors_count_them(text: str, line: int, column: int) -> None:
    at = text.index("x")
    assert places.lines("p", text, [Fault((), "m", at)]) == [f"p:{line}:{column}: m"]


def test_what_has_no_place_comes_first_and_without() -> None:
    faults = [Fault(("b",), "second", 4), Fault((), "first")]
    assert places.lines("p", "", faults) == ["p: first", "p:1:5: b: second"]


def test_what_is_written_is_said_as_it_is_written() -> None:
    for text, said in (
        ('{"command": 1.50}', '"1.50"'),
        ('{"command": true}', '"true"'),
        ('{"command": -0}', '"-0"'),
    ):
        (line,) = places.lines("p", text, examine("p.json", text))
        assert line.endswith(f"put it in quotes: {said}")
    text = "command: a\nuser: 42:42\n"  # YAML reads a number in base 60
    (line,) = places.lines("p.yaml", text, examine("p.yaml", text))
    assert line == 'p.yaml:2:7: user: is a number; put it in quotes: "42:42"'
