"""Claims on made-up measurements: each must come out true, false, undecided or not testable where it is."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from routegraph.stats.intervals import Interval
from routegraph.validate.claims import cliff, pairs, tables
from routegraph.validate.claims import traces as claims_traces
from routegraph.validate.claims.case import (
    FAILS,
    HOLDS,
    MIXED,
    UNDECIDED,
    UNTESTABLE,
    Case,
    conclude,
    items_to_decide,
    mean_of,
    overall,
    short,
    show,
    standing,
)
from routegraph.validate.claims.figures import plot_claims, plot_traces
from routegraph.validate.claims.judge import claims, claims_of_files, to_dict
from routegraph.validate.measure.cells import open_folder, sealed, write_cell
from tests.helpers.commands import run
from tests.helpers.measured import synthetic
from tests.helpers.traces import synthetic_trace

RATIOS = np.array([0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.99])
NAMES = ("chunk", "adakv", "random")


def measured(breaks, metrics=None, names=NAMES, cliffs=None, aware=False, model="made up", **more):
    """Items that are right below a ratio of their own, float[n] or float[n, policies]; wrong ones are made up."""
    table = np.asarray(breaks, dtype=float)
    table = table[:, None] if table.ndim == 1 else table
    table = np.broadcast_to(table, (len(table), len(names)))
    right = np.asarray(table[..., None] > RATIOS)
    found = synthetic(right, metrics or {}, ratios=RATIOS.tolist(), **more)
    return replace(
        found,
        settings={**found.settings, "policies": list(names), "model": model, "question_aware": aware},
        cliffs={name: cliffs or {} for name in names},
    )


def normal(centre, spread, n=200, seed=0):
    return np.clip(np.random.default_rng(seed).normal(centre, spread, n), 0.001, 2)


def uniform(n=200, seed=0):
    return np.random.default_rng(seed).uniform(0.001, 1, n)


def verdicts(claim):
    return {case.verdict for case in claim.evidence}


FLOORED = np.where(np.arange(50) < 20, 0.95, -1)


@pytest.mark.parametrize(
    ("breaks", "word"),
    [
        (normal(0.9, 0.02), HOLDS),
        (uniform(), FAILS),
        (np.where(np.arange(20) < 18, 0.95, 0.3), UNDECIDED),
        (FLOORED, UNTESTABLE),
    ],
)
def test_c1(breaks, word):
    found = cliff.margin([measured(breaks)])
    assert verdicts(found) == {word}
    assert found.verdict == word
    if word == UNDECIDED:
        assert "items would decide" in found.evidence[0].figure
    if word == UNTESTABLE:
        assert found.notes == ("made up, at floor: t inverse (20 of 50 right)",)


def test_c1_says_whether_random_eviction_does_as_well():
    breaks = np.stack([normal(0.9, 0.02), normal(0.9, 0.02), uniform()], axis=1)
    (first, _) = cliff.margin([measured(breaks)]).evidence
    assert first.numbers["ahead"]["low"] > 0.2
    (same, _) = cliff.margin([measured(uniform())]).evidence
    assert same.numbers["ahead"]["value"] == 0


@pytest.mark.parametrize(
    ("breaks", "cliffs", "word"),
    [
        (normal(0.9, 0.015, 400), {}, HOLDS),
        (normal(0.5, 0.02, 400), {}, FAILS),
        (uniform(400), {}, FAILS),
        (normal(0.9, 0.015, 400), {"4 sinks": 0.9}, UNDECIDED),
        (np.linspace(0.82, 0.92, 8), {}, UNDECIDED),
        (np.full(100, 2.0), {}, UNTESTABLE),
        (FLOORED, {}, UNTESTABLE),
    ],
)
def test_c2(breaks, cliffs, word):
    found = cliff.cliff([measured(breaks, cliffs=cliffs, names=("chunk",))])
    assert found.verdict == word
    if cliffs:
        assert "built in at .900" in found.evidence[0].baseline


def test_c2_where_hallucination_falls_is_no_cliff():
    source = measured(normal(0.9, 0.015, 400), names=("chunk",))
    right = ~source.right
    right[..., 0] = True
    found = cliff.cliff([replace(source, right=right)])
    assert found.evidence[0].verdict == FAILS


def test_a_model_that_abstains_shows_no_cliff_of_hallucination():
    source = measured(normal(0.9, 0.02))
    source = replace(source, abstained=~source.right)
    for judge in (cliff.cliff, cliff.steepest, cliff.together, pairs.presses):
        found = judge([source])
        if judge is not cliff.together:
            assert found.verdict == UNTESTABLE
            assert "abstains instead" in found.evidence[0].figure


@pytest.mark.parametrize("word", [HOLDS, FAILS, UNDECIDED])
def test_c3(word):
    n = 24 if word == UNDECIDED else 200
    breaks = uniform(n)
    rng = np.random.default_rng(1)
    own = breaks + rng.normal(0, 0.1, n) if word == HOLDS else np.full(n, 0.5)
    if word == UNDECIDED:
        own = breaks + np.random.default_rng(0).normal(0, 0.7, n)
    lost = 1 / (1 + np.exp(-(RATIOS - own[:, None]) / 0.05))
    values = np.repeat(lost[:, None], len(NAMES), axis=1)
    found = cliff.together([measured(breaks, {"ger_answer_model": values, "ger_answer_layer": values})])
    assert verdicts(found) == {word}
    case = found.evidence[0]
    if word == FAILS:  # the same for all items: it goes with the ratio, and tells nothing
        assert case.numbers["r"]["value"] > 0.8
        assert case.main == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("breaks", "word"),
    [(normal(0.9, 0.01, 300), HOLDS), (normal(0.5, 0.05, 300), FAILS), (uniform(30), UNDECIDED)],
)
def test_c4(breaks, word):
    found = cliff.steepest([measured(breaks)])
    assert found.verdict == word
    assert "a straight line would peak" in found.evidence[0].baseline
    if word == HOLDS:
        assert found.evidence[0].numbers["edge_share"] > 0.9


def test_steepest_windows_and_ties():
    ratios = np.array([0, 0.5, 0.9, 0.93, 0.95])
    assert cliff.windows(ratios) == [(0, 1), (1, 2), (2, 4)]
    assert cliff.peak(ratios, np.array([[0, 0.1, 0.1, 0.3, 0.4], ratios])).tolist() == pytest.approx(
        [0.925, np.mean([0.25, 0.7, 0.925])]
    )


def test_c8():
    n = 200
    known = np.arange(n) < 100
    plain = np.stack([np.where(known, 0.3, 0.9)] * 2 + [np.full(n, 0.5)], axis=1)
    better = np.stack([np.where(known, 0.9, 0.3)] * 2 + [np.full(n, 0.5)], axis=1)
    for before, after, word in ((plain, better, HOLDS), (better, plain, FAILS)):
        pair = [measured(before, answerable=known), measured(after, aware=True, answerable=known)]
        found = pairs.question_aware(pair)
        assert verdicts(found) == {word}
        assert len(found.evidence) == 4
        assert "random: .00" in found.evidence[0].baseline
    never = np.where(known, 0.3, -1)  # wrong at every ratio where the context does not tell
    told = pairs.question_aware([measured(never, aware=aware, answerable=known) for aware in (False, True)])
    assert [case.verdict == UNTESTABLE for case in told.evidence] == [False, True] * 2
    few = [measured(normal(0.6, 0.2, 12, k), aware=bool(k), names=("chunk",)) for k in (0, 1)]
    assert pairs.question_aware(few).evidence[0].verdict == UNDECIDED


def test_c8_pairs_by_item_and_says_what_has_no_partner():
    agnostic, aware = measured(uniform(40)), measured(uniform(40)[::-1], aware=True)
    shuffled = replace(aware.only(np.arange(40)[::-1]))
    ((first, second),) = pairs.pairs([agnostic, shuffled])
    assert first.ids == second.ids == tuple(sorted(agnostic.ids))
    at = [0, 2, 5]
    fewer = replace(
        aware,
        settings={**aware.settings, "ratios": RATIOS[at].tolist()},
        right=aware.right[..., at],
        abstained=aware.abstained[..., at],
    )
    ((first, second),) = pairs.pairs([agnostic, fewer])
    assert first.ratios.tolist() == second.ratios.tolist() == RATIOS[at].tolist()
    order = [agnostic.ids.index(name) for name in first.ids]
    assert np.array_equal(first.right, agnostic.right[order][..., at])
    lone = pairs.question_aware([measured(uniform(40), aware=True, model="other"), agnostic])
    assert lone.verdict == UNTESTABLE
    assert lone.notes == ("other, question-aware: no agnostic run of the same model and items was given",)


@pytest.mark.parametrize(
    ("gap", "lost", "word"), [(0.3, 0.01, HOLDS), (-0.3, 0.9, FAILS), (0.0, 0.25, UNDECIDED)]
)
def test_c10(gap, lost, word):
    rng = np.random.default_rng(0)
    breaks = np.concatenate([rng.normal(0.65, 0.1, 80), rng.normal(0.65 - gap, 0.1, 80)])
    noise = rng.normal(0, 0.05, (160, 1, 1))
    values = np.broadcast_to(lost + noise, (160, len(NAMES), len(RATIOS)))
    found = pairs.multi_hop(
        [measured(breaks, {"ger_worst_fact_model": values}, tasks=["words_forward"] * 80 + ["two_hop"] * 80)]
    )
    assert verdicts(found) == {word}


def test_c10_at_floor_is_not_testable():
    tags = [("forward", "1 hop")] * 20 + [("forward", "2 hops")] * 20
    found = pairs.multi_hop([measured(np.where(np.arange(40) < 20, 0.5, -1), tags=tags)])
    assert found.verdict == UNTESTABLE
    assert found.notes == ("made up, at floor: multi-hop t forward (0 of 20 right)",)


def test_c11():
    differ = np.stack([np.full(200, 0.8), normal(0.55, 0.1), uniform()], axis=1)
    found = pairs.presses([measured(differ)])
    assert found.verdict == HOLDS
    same = pairs.presses([measured(uniform())])
    assert [case.verdict for case in same.evidence] == [FAILS, HOLDS]
    assert same.verdict == MIXED
    apart = np.stack([np.full(200, 0.95), np.full(200, 0.45), uniform()], axis=1)
    assert pairs.presses([measured(apart)]).evidence[1].verdict == FAILS


# --- traces, probes -------------------------------------------------------------------------------------


def deep(number, model="smollm2", layers=14, n=60, rising=True):
    """A trace whose four query heads read one key in early layers and four in late ones, or the other way round."""
    trace = synthetic_trace(number, n=200)
    apart = np.linspace(0, 1, layers) if rising else np.linspace(1, 0, layers)
    rng = np.random.default_rng(number)
    own = rng.random((layers, 4, n)) < apart[:, None, None]
    tops = np.where(own, np.arange(1, 5)[None, :, None], 0).astype(np.int32)
    return replace(
        trace,
        model=model,
        n_layers=layers,
        n_query_heads=4,
        tops=tops,
        tops_without_sink=tops,
        task=f"t{number % 2}",
    )


def test_c5():
    def word(**more):
        return claims_traces.depth([[deep(k, **more) for k in range(4)]])

    assert [case.verdict for case in word().evidence] == [HOLDS, HOLDS, UNTESTABLE]  # no Qwen at hand
    assert verdicts(word(model="Qwen2.5-3B")) == {FAILS}
    assert verdicts(word(model="Qwen2.5-3B", rising=False)) == {HOLDS}
    assert word(layers=4).verdict == UNTESTABLE
    assert "judged from 12 layers on" in word(layers=4).evidence[0].figure
    assert claims_traces.depth([[synthetic_trace(0)]]).verdict == UNTESTABLE


def test_c6():
    def run_of(rho, shift=0.0):
        made = [replace(synthetic_trace(k, rho, sinks=0), task=f"t{k % 2}") for k in range(12)]
        return [
            t
            if k % 2
            else replace(
                t,
                scores={a: np.where(np.arange(200) < 200 * shift, s[:1, :1], s) for a, s in t.scores.items()},
            )
            for k, t in enumerate(made)
        ]

    alike = {case.where: case.verdict for case in claims_traces.eviction_rate([run_of(1.0)]).evidence}
    assert set(alike.values()) == {HOLDS}
    apart = claims_traces.eviction_rate([run_of(0.0, 0.8)]).evidence
    told = {case.where.split(", ", 1)[1]: case.verdict for case in apart}
    assert told["adakv, all slots, tasks"] == FAILS
    assert claims_traces.eviction_rate([run_of(0.0)]).evidence[0].verdict == FAILS
    few = claims_traces.eviction_rate([run_of(0.5)[:4]]).evidence
    assert few[1].verdict == UNTESTABLE


def probe(f1, low, high, ratio=0.9, chance=0.25):
    row = {"features": "cache", "policy": "chunk", "chance": chance}
    return {**row, "ratio": ratio, "macro_f1": f1, "low": low, "high": high}


@pytest.mark.parametrize(
    ("late", "word"),
    [((0.8, 0.7, 0.9), HOLDS), ((0.3, 0.2, 0.4), FAILS), ((0.6, 0.4, 0.7), UNDECIDED)],
)
def test_c7(late, word, tmp_path):
    path = tmp_path / "probes.json"
    path.write_text(json.dumps({"model": "made up", "results": [probe(0.9, 0.8, 1, 0), probe(*late)]}))
    found = claims_traces.probes([claims_traces.read_probes(path)], [measured(uniform())])
    assert found.verdict == word
    assert "generation right" in found.evidence[0].baseline
    alone = [{**row, "question_only": 0.85} for row in (probe(0.9, 0.8, 1, 0), probe(*late))]
    by_question = claims_traces.probes([{"results": alone}])
    assert by_question.verdict == UNTESTABLE
    assert "the question alone .85" in by_question.evidence[0].baseline
    low = claims_traces.probes([{"results": [probe(0.3, 0.2, 0.4, 0), probe(*late)]}])
    assert low.verdict == UNTESTABLE


@pytest.mark.parametrize("text", ["{}", "no", '{"results": [{"features": "x"}]}', "[]"])
def test_a_file_without_probes_is_refused(text, tmp_path):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(ValueError, match="holds no results of linear probes"):
        claims_traces.read_probes(tmp_path / "p.json")


# --- rule, intervals, tables ----------------------------------------------------------------------------


def test_overall():
    def word(*words):
        return overall([Case("x", w, "") for w in words])

    assert word(HOLDS, HOLDS, UNDECIDED, UNTESTABLE) == HOLDS
    assert word(HOLDS, UNDECIDED, UNDECIDED) == UNDECIDED
    assert word(HOLDS, FAILS, UNDECIDED) == MIXED
    assert word(FAILS) == FAILS
    assert word(UNDECIDED) == UNDECIDED
    assert word(UNTESTABLE) == word() == UNTESTABLE


def test_intervals_are_never_empty_and_numbers_are_short():
    nothing = mean_of(np.zeros(20))
    assert (nothing.low, nothing.high) == pytest.approx((-(1 - 0.025**0.05), 1 - 0.025**0.05))
    assert math.isnan(mean_of([]).value)
    assert show(Interval(0.5, 0.25, math.nan)) == ".50 [.25, ?]"
    assert [short(x) for x in (-0.001, -0.5, 1.0, 10.25)] == [".00", "-.50", "1.00", "10.25"]
    assert items_to_decide(Interval(0.8, 0.6, 1.0), 0.9, 50) == 200


def test_floor_goes_by_task_and_direction():
    tags = [("forward", "x")] * 10 + [("inverse",)] * 10
    found = standing(measured(np.where(np.arange(20) < 13, 0.9, -1), tags=tags, tasks=["base"] * 20))
    assert len(found.items.ids) == 10
    assert found.floor == ("base inverse (3 of 10 right)",)


def test_all_claims_and_their_tables():
    sources = [measured(uniform(60)), measured(normal(0.8, 0.1, 60), aware=True, names=NAMES[:1])]
    runs = [[replace(deep(k, layers=4), n_heads=3) for k in range(2)]]
    judged = claims(sources, runs)
    assert [claim.id for claim in judged] == [f"C{k}" for k in range(1, 12)]
    document = to_dict(judged, sources, 0)
    json.dumps(document, allow_nan=False)
    assert all(row["verdict"] and row["test"] and row["figure"] for row in document["results"])
    page = "".join(tables.to_html(judged))
    assert page.count("<tr>") > 30
    assert "C11" in page
    text = tables.to_markdown(judged)
    assert sum(line.startswith("### C") for line in text) == 11
    widths = {line.count("|") for line in text[:13]}
    assert widths == {5}
    assert len(plot_claims(sources).axes) == 6
    assert len(plot_traces(runs).axes) == 3
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_claims([])


def test_what_is_named_is_escaped():
    claim = conclude("C1", "<b>", "t | t", "f", "b", [Case("a|b", HOLDS, "<i>")])
    assert "<b>" not in "".join(tables.to_html([claim]))
    assert "| a/b |" in "\n".join(tables.to_markdown([claim]))


# --- files and commands ---------------------------------------------------------------------------------


def folder_of(found, path):
    """Write a measurement as `measure` does."""
    cells = open_folder(path, found.settings)
    for i, name in enumerate(found.ids):
        content = {
            "prompt": {
                "id": name,
                "task": found.item_tasks[i],
                "n_context": 100,
                "answerable": True,
                "tags": list(found.tags[i]),
            },
            "right": found.right[i].ravel().tolist(),
            "abstained": found.abstained[i].ravel().tolist(),
            "replies": list(found.replies[i]),
            "metrics": {},  # as an earlier version, that knew none of today's
            "protected": {policy: {"n_sink": 4} for policy in found.policies},
        }
        write_cell(cells / f"{i}.json", sealed(content, found.settings))
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("measured")
    return [folder_of(measured(uniform(20, k), names=NAMES[:1]), base / f"m{k}") for k in range(2)]


def test_folders_of_one_model_are_told_apart(folders):
    judged, found = claims_of_files(folders)
    assert [m.settings["label"] for m in found] == ["made up (m0)", "made up (m1)"]
    assert np.isnan(found[0].metrics["ger_answer_model"]).all()
    assert judged[2].verdict == UNTESTABLE  # GER was not measured
    assert claims_of_files(folders[:1])[1][0].settings["model"] == "made up"


def test_claims_by_command(capsys, folders, tmp_path):
    status, out, err = run(capsys, "claims", folders[0], "--json")
    assert (status, err) == (0, "")
    assert len(json.loads(out)["results"]) == 11
    status, out, _ = run(capsys, "claims", folders[0], "--plot", tmp_path / "c.svg")
    assert status == 0
    assert "C10: not testable here" in out
    assert "</svg>" in (tmp_path / "c.svg").read_text()


def test_claims_in_the_report(capsys, folders, tmp_path):
    from routegraph.trace import Trace

    traces = [synthetic_trace(k) for k in range(4)]
    table = {"expected_attention/chunk64": traces[0].scores["expected_attention"]}
    known = {"expected_attention/chunk64": {"n_sink": 4, "chunk_length": 64}}
    traces = [replace(t, scores={**t.scores, **table}, scorers={**t.scorers, **known}) for t in traces]
    Trace.save(tmp_path / "t.npz", traces, {})
    page = tmp_path / "r.html"
    assert run(capsys, "report", tmp_path / "t.npz", "--out", page, "--measured", folders[0])[0] == 0
    assert "The paper&#x27;s claims" in page.read_text() or "The paper's claims" in page.read_text()
    assert "C11, case by case" in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["claims", "none"], ["none", "no folder of routegraph measure"]),
        (["claims", "FOLDER", "--probes", "none"], ["none", "linear probes"]),
        (["claims", "FOLDER", "--trace", "none.npz"], ["none.npz"]),
        (["report", "t.npz", "--out", "r.html", "--probes", "p"], ["--measured"]),
    ],
)
def test_bad_input_is_one_plain_line(capsys, folders, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, *(folders[0] if a == "FOLDER" else a for a in arguments))
    assert (status, out, err.count("\n")) == (2, "", 1)
    for word in words:
        assert word in err
