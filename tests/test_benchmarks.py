"""What the benchmarks say changed since their last results."""

import copy

from benchmarks.regression import changes, page

BEFORE = {
    "triad_bytes_per_second": 10e9,
    "versions": {"numpy": "2.0", "numba": "0.6"},
    "kernel": {"rows": {"ours": {"median": 1.0, "least": 0.9, "most": 1.1, "runs": 5}}},
    "stream": {
        "rows": [
            {"n": 512, "median": 2.0, "least": 1.8, "most": 2.2, "peak_bytes": 100_000_000},
            {"n": 2, "shape": [3, 4], "seconds": {"ours": [1.0, 3.0, 2.0]}},
            {"n": 1024, "median": 4.0, "least": 3.9, "most": 4.1, "peak_bytes": 200_000_000},
        ]
    },
}


def changed(**rows):
    after = copy.deepcopy(BEFORE)
    for row in after["stream"]["rows"]:
        row |= rows.get(f"n{row['n']}", {})
    after["kernel"]["rows"]["ours"] |= rows.get("kernel", {})
    return after


def apart(after):
    return {one.name: round(one.times, 2) for one in changes(BEFORE, after) if one.apart}


def test_the_same_run_has_not_changed():
    assert len(changes(BEFORE, BEFORE)) == 6
    assert apart(BEFORE) == {}
    assert "0 rose and 0 fell" in page(BEFORE, BEFORE)


def test_spreads_that_meet_are_no_change():
    assert apart(changed(kernel={"median": 1.3, "least": 1.05, "most": 1.5})) == {}
    assert apart(changed(kernel={"median": 1.3, "least": 1.2, "most": 1.5})) == {"kernel / rows / ours": 1.3}
    assert apart(changed(n2={"seconds": {"ours": [4.0, 5.0, 6.0]}})) == {
        "stream / rows / 2, [3, 4], ours": 2.5
    }
    assert apart(changed(kernel={"median": 0.5, "least": 0.4, "most": 0.6})) == {"kernel / rows / ours": 0.5}


def test_a_twentieth_is_no_change_however_narrow_the_spread():
    assert apart(changed(n1024={"median": 4.2, "least": 4.15, "most": 4.3})) == {}


def test_rows_are_known_by_what_they_measure_and_not_by_their_place():
    after = changed(n512={"median": 4.0, "least": 3.9, "most": 4.1, "peak_bytes": 150_000_000})
    after["stream"]["rows"].reverse()
    assert apart(after) == {"stream / rows / 512": 2.0, "stream / rows / 512, peak_bytes": 1.5}


def test_the_page_says_what_is_new_and_gone_and_which_versions_changed():
    after = changed(kernel={"median": 3.0, "least": 2.9, "most": 3.1})
    after["versions"]["numba"] = "0.7"
    after["stream"]["rows"][0]["n"] = 2048
    after["triad_bytes_per_second"] = 5e9
    told = page(BEFORE, after)
    assert (
        "Of 4 figures that both runs have, 1 rose and 0 fell beyond the spread of both. 2 are new, 2 are gone."
        in told
    )
    assert "0.50 times the bytes" in told
    assert "numba 0.6 -> 0.7" in told
    assert "| kernel / rows / ours | 1 s | 3 s | 3.00 |" in told
