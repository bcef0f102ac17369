"""`make demo` on a tiny model: a question that the model can answer, the answer at the end, the files."""

import numpy as np
import pytest

from routegraph import simulate
from routegraph.cli import demo
from routegraph.trace import Trace
from routegraph.validate.compare.run import compare
from routegraph.validate.prompts.prompt import Prompt
from tests.helpers.traces import synthetic_trace


class Asked:
    """A measurement of one question."""

    def __init__(self, name, right):
        self.name, self.right = name, np.array([[[right]]])


@pytest.mark.parametrize(
    ("answered", "tried"),
    [
        ({demo.FIRST}, [demo.FIRST]),
        ({"b", "c"}, [demo.FIRST, "a", "b"]),
        (set(), [demo.FIRST, "a", "b"]),
    ],
)
def test_the_first_question_that_is_answered_is_shown(monkeypatch, answered, tried):
    seen = []

    def measure(model, prompts, *, policy_names, ratios, progress):
        seen.append(prompts[0].id)
        return Asked(prompts[0].id, prompts[0].id in answered)

    monkeypatch.setattr(demo, "measure", measure)
    prompts = [Prompt(name, "x", "q", "a") for name in ("a", "b", demo.FIRST, "c")]
    assert demo.ask(None, prompts).name == tried[-1]
    assert seen == tried


def test_it_ends_in_what_was_found_and_where_it_is(monkeypatch, tmp_path, capsys):
    from routegraph.validate.models.load import load
    from routegraph.validate.tasks import load_task

    monkeypatch.chdir(tmp_path)
    small = simulate(64, [0.7, 0.9], n_layers=2, n_heads=2, replicates=3)
    monkeypatch.setattr(demo, "simulate", lambda *_, **__: small)
    monkeypatch.setattr(demo, "load", lambda name, progress: load("llama-tiny"))
    monkeypatch.setattr(demo, "load_task", lambda name: load_task("words_two_hop", 2))
    monkeypatch.setattr(demo, "POLICIES", ("topk",))
    traces = [synthetic_trace(k) for k in range(4)]

    def extract(model, prompts, out, progress):
        Trace.save(out, traces, {})

    monkeypatch.setattr(demo, "extract_to_file", extract)

    def few(read):
        return compare(read, policy_names=["topk"], ratios=[0.5, 0.7, 0.8, 0.9])

    monkeypatch.setattr(demo, "compare", few)
    demo.main()
    out, err = capsys.readouterr()
    told = " ".join(out.split())
    assert told.index("Its replies, side by side") < told.index("What was found")
    assert "With the full cache" in told
    assert 'right: "' in told
    end = told[told.index("What was found") :]
    assert "Under topk half of the answer's tokens are gone from all 12 slots" in end
    assert end.endswith("demo/smollm2.npz.")
    assert "wrote demo/report.html" in err
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == [
        "figure.svg",
        "report.html",
        "smollm2.npz",
    ]
    assert "A real question under compression" in (tmp_path / "demo" / "report.html").read_text()
