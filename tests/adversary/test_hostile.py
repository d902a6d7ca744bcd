"""A hostile service, item by item: docs/security.md says which promise each test holds."""

import pytest
from hostile import LINE, REST, SITUATIONS, look, prepare
from sandbox import Sandbox


@pytest.mark.parametrize("name", SITUATIONS)
def test_planted(sandbox: Sandbox, name: str) -> None:
    situation = SITUATIONS[name]
    before = prepare(sandbox, situation, sandbox.set_configs)
    done = sandbox.set_configs(timeout=120)
    assert look(sandbox, situation) == before
    assert done.returncode == situation.code, done.stderr[-4000:]
    assert situation.message in done.stderr
    for line in done.stderr.splitlines():
        assert LINE.fullmatch(line) and line.isprintable(), line
    if situation.code:
        assert sandbox.changes() == {}
        return
    assert sandbox.read(REST) == "the rest"
    if situation.after:
        situation.after(sandbox)
    if not situation.heavy:
        # And the next start finds nothing to do.
        sandbox.mark()
        assert sandbox.set_configs().returncode == 0
        assert sandbox.changes() == {}
    assert look(sandbox, situation) == before
