"""The table of docs/guide/methods.md, from the registries: `python -m studies.methods_table`."""

from routegraph.policies import declared
from routegraph.validate.presses.methods import DEFAULT_SCORER, method_words, vocabulary
from studies.pages import DOCS, between, markdown

PAGE = DOCS / "guide" / "methods.md"
BEGIN, END = "<!-- methods: written by studies/methods_table.py -->", "<!-- end of methods -->"


def table() -> str:
    """Return every method that comes with routegraph: name, scores, cut, kvpress's press."""
    rows = []
    for one in vocabulary():
        if not one.built_in:
            continue
        scored = declared(one.cut).scores is not None
        scorer = one.scorer or DEFAULT_SCORER if scored else "none"
        cut = method_words(one.cut, scorer).partition(", cut " if scored else "; ")[2]
        press = f"`{one.press}`" if one.press else ""
        rows.append([f"`{one.name}`", f"`{scorer}`" if scored else scorer, f"`{one.cut}`: {cut}", press])
    left = markdown(["name", "scores of", "cut", "kvpress"], rows)
    return left.replace("---:", "---")


def page(text: str) -> str:
    """Return the page with the table as it is now."""
    return between(text, BEGIN, table(), END)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
