"""What MAPIE certifies on made and on measured losses, for a test of ours: ``python -m studies.mapie_values``.

Writes tests/data/mapie.json. Needs ``pip install mapie==1.6.0`` beside routegraph, which does not depend on it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from routegraph.files import atomic_open

PATH = Path(__file__).parent.parent / "tests" / "data" / "mapie.json"
MADE, LEVELS = 60, (0.1, 0.05, 0.025)


def losses() -> list[tuple[str, np.ndarray]]:
    """Return tables of who breaks, bool[n_items, n_settings]: of measured runs, and made ones that go up and down."""
    from studies.judged_runs import runs

    found = runs()
    tables = [
        (f"{name} {policy}", found[name].fails[:, k, 1:])
        for name in ("qwen", "smollm2", "llama-tiny-11")
        for k, policy in enumerate(found[name].policies)
    ]
    rng = np.random.default_rng(0)
    for number in range(MADE):
        risks = np.sort(rng.random(8) ** 3) * rng.random() + rng.normal(0, 0.01, 8)
        tables.append((f"made {number}", rng.random((int(rng.integers(5, 400)), 8)) < risks))
    return tables


def main() -> None:
    """Write what MAPIE says of every table at two risks and three levels."""
    from mapie.risk_control.fwer_control import control_fwer
    from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value

    rows: list[dict[str, Any]] = []
    for name, table in losses():
        for risk in (0.05, 0.1):
            n = len(table)
            values = compute_hoeffding_bentkus_p_value(table.mean(axis=0), n, risk, binary=True)[:, 0]
            certified = {
                str(level): {
                    method: control_fwer(values, level, fwer_method=method).tolist()
                    for method in ("fixed_sequence", "bonferroni_holm")
                }
                for level in LEVELS
            }
            counts = table.sum(axis=0).tolist()
            rows.append(
                {
                    "of": name,
                    "n": n,
                    "risk": risk,
                    "counts": counts,
                    "p": values.tolist(),
                    "certified": certified,
                }
            )
    with atomic_open(PATH, "w") as stream:
        stream.write(json.dumps({"mapie": "1.6.0", "rows": rows}) + "\n")


if __name__ == "__main__":
    main()
