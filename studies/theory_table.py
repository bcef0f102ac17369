"""How far simulation lies from theory: ``python -m studies.theory_table > docs/theory_table.md``.

Reads what ``make verify`` recorded, so that the table and the checks cannot disagree.
"""

import json

from tests.helpers.results import RESULTS


def rows(known):
    """Yield (check, quantity, found, error, truth, distance, runs, source) of every recorded value."""
    for check, entry in known.items():
        for name, row in entry["values"].items():
            yield check, name, row["value"], row["stderr"], row["truth"], row["runs"], row["source"]


def main():
    """Print the table in markdown."""
    known = json.loads((RESULTS / "results.json").read_text())
    print("# Theory and simulation side by side\n")
    print("Made by `make verify`, then `python -m studies.theory_table > docs/theory_table.md`.")
    print(
        "Figures lie in `tests/verification/results/`. Formulas and where they hold: [theory.md](theory.md).\n"
    )
    last = None
    for check, name, value, error, truth, runs, source in rows(known):
        if check != last:
            print(f"\n## {check}\n")
            print("| quantity | found | standard error | theory or literature | difference | runs | source |")
            print("|---|---|---|---|---|---|---|")
            last = check
        shown = "" if error is None else f"{error:.2g}"
        print(f"| {name} | {value:.6g} | {shown} | {truth:.6g} | {value - truth:+.2g} | {runs} | {source} |")


if __name__ == "__main__":
    main()
