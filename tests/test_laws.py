"""The laws over the whole registry, and that `check_laws` sees every kind of crime."""

import numpy as np
import pytest

from routegraph.policies import eviction_order, policies, policy
from routegraph.sim.ensembles import Edges, ensemble, ensembles, regular
from routegraph.survival import Survival
from routegraph.testing import check_laws

NEEDS = {"lattice": {"n_heads": 2, "degree": 1}}
#: Registered by other tests and examples in the same process, or in need of a file.
OWN = {"empirical"}


@pytest.mark.parametrize("name", sorted(policies))
def test_every_policy_obeys_the_laws(name):
    check_laws(name)


@pytest.mark.parametrize("name", sorted(set(ensembles) - OWN))
def test_every_ensemble_obeys_the_laws(name):
    check_laws(name, **NEEDS.get(name, {}))


def test_an_unknown_name_is_refused():
    with pytest.raises(
        ValueError, match="no policy, ensemble or grader 'luck' is registered; choose from: adakv"
    ):
        check_laws("luck")


@pytest.fixture
def criminal():
    """Register functions for one test only."""
    before = [(registry, dict(registry._functions)) for registry in (policies, ensembles)]
    yield
    for registry, functions in before:
        registry._functions.clear()
        registry._functions.update(functions)


def _forgetful(scores, *, n_context, calls=[]):  # noqa: B006
    calls.append(1)
    return Survival(eviction_order(np.roll(scores, len(calls), axis=-1)))


POLICIES = {
    "every row must be kept": lambda scores, *, n_context: Survival(
        eviction_order(scores), np.linspace(0, 0.99, n_context)
    ),
    "every layer must keep a row": lambda scores, *, n_context: Survival(
        np.ones(scores.shape, dtype=int), np.array([0.4])
    ),
    "the same scores must give the same result": _forgetful,
    "relabelling heads": lambda scores, *, n_context: Survival(
        eviction_order(scores * np.arange(1, scores.shape[1] + 1)[:, None] - 1)
        if scores.shape[1] < 2
        else np.concatenate([eviction_order(scores[:, :1]), eviction_order(-scores[:, 1:])], axis=1)
    ),
}


@pytest.mark.parametrize("law", POLICIES)
def test_a_criminal_policy_is_caught(criminal, law):
    policy("criminal")(POLICIES[law])
    with pytest.raises(AssertionError, match=law):
        check_laws("criminal")


def _future(key, layer, *, n_tokens, n_heads, degree):
    return Edges(np.arange(n_tokens + 1), np.full(n_tokens, (n_tokens - 1) * n_heads))


def _one_headed(key, layer, *, n_tokens, n_heads, degree):
    edges = regular(n_tokens, n_heads, degree)
    edges.slots[:] = 0
    return edges


def _moody(key, layer, *, n_tokens, n_heads, degree, _calls=[]):  # noqa: B006
    _calls.append(1)
    read = len(_calls) % np.arange(1, n_tokens + 1)
    return Edges(np.arange(n_tokens + 1), read * n_heads)


def _short(key, layer, *, n_tokens, n_heads, degree):
    return Edges(np.arange(n_tokens), np.zeros(n_tokens - 1, dtype=int))


ENSEMBLES = {
    "keys must not come after their query": _future,
    "must read `degree` keys": _one_headed,
    "the same key must give the same edges": _moody,
    "indptr must have an entry for every query": _short,
}


@pytest.mark.parametrize("law", ENSEMBLES)
def test_a_criminal_ensemble_is_caught(criminal, law):
    ensemble("criminal")(ENSEMBLES[law])
    with pytest.raises(AssertionError, match=law):
        check_laws("criminal")
