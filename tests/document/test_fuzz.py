"""Any document: what is accepted, and that what is refused touches nothing. The fast part."""

import random

import fuzz
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sandbox import Sandbox

_corpus = fuzz.corpus()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.randoms(use_true_random=True))
def test_judge_and_models_agree_on_mutated_documents(rng: random.Random) -> None:
    fuzz.judge(fuzz.mutated(rng, _corpus))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.randoms(use_true_random=True))
def test_the_same_read_as_yaml(rng: random.Random) -> None:
    fuzz.judge(fuzz.mutated(rng, _corpus), "config.yaml")


@pytest.mark.parametrize("seed", range(4))
def test_refused_touches_nothing(sandbox: Sandbox, seed: int) -> None:
    for problem in fuzz.through_the_command(sandbox, seed, 20):
        raise AssertionError(problem)
