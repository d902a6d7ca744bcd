"""Any document: what is accepted, and that what is refused touches nothing. The fast part."""

import random
import subprocess

import fuzz
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sandbox import CONFIG_FILES, Sandbox

_corpus = fuzz.corpus()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.randoms(use_true_random=True))
def test_acceptor_and_models_agree_on_mutated_documents(rng: random.Random) -> None:
    fuzz.judge(fuzz.mutated(rng, _corpus))


@pytest.mark.parametrize("seed", range(4))
def test_refused_touches_nothing(sandbox: Sandbox, seed: int) -> None:
    for problem in through_the_command(sandbox, seed, 20):
        raise AssertionError(problem)


def through_the_command(box: Sandbox, seed: int, count: int) -> list[str]:
    """Mutated documents through the real command, with the problems found."""
    rng = random.Random(seed)
    problems = []
    for user in ("nova", "neutron", "memcache"):
        box.adduser(user)
    for number in range(count):
        text = fuzz.mutated(rng, _corpus)
        box.write(f"{CONFIG_FILES}/config.json", text.encode("utf-8", "surrogatepass"))
        box.mark()
        try:
            done = box.set_configs(timeout=20)
        except subprocess.TimeoutExpired:
            problems.append(f"seed {seed}, input {number}: no end: {text}")
            continue
        if done.returncode not in (0, 1) or "Traceback" in done.stderr:
            problems.append(f"seed {seed}, input {number}: {text}\n{done.stderr[-2000:]}")
        elif done.returncode == 1 and box.changes() and "the next start" not in done.stderr:
            problems.append(f"seed {seed}, input {number}: refused, and touched: {text}")
    return problems
