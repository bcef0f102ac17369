"""One self-contained HTML page: head, style, tables that scroll inside their own box, figures that are described."""

from __future__ import annotations

from collections.abc import Iterable

from routegraph.tables import Grid, Heading, Page
from routegraph.text import hypertext

STYLE = """
html{color-scheme:light}body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:1.5rem auto;padding:0 1rem;
color:#222;background:#fff}
h1{font-size:1.6rem;line-height:1.25}h2{font-size:1.25rem;margin-top:2.2rem;border-top:1px solid #ddd;padding-top:1rem}
.answer{border:2px solid #0072B2;border-radius:.4rem;padding:.2rem 1rem;margin:1rem 0;background:#f3f8fc}
table{border-collapse:collapse;margin:.3rem 0;font-size:.9rem}
td,th{padding:.2rem .7rem .2rem 0;border-bottom:1px solid #eee;text-align:left;vertical-align:top}
th{white-space:pre-line}.r{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
svg{max-width:100%;height:auto}figure{margin:1rem 0}
.panels{display:flex;flex-wrap:wrap;gap:1rem;align-items:flex-start}
.panels svg{flex:1 1 max(18rem,40%);min-width:0;max-width:32rem}
.note{color:#555;font-size:.9rem}dt{font-weight:600}dd{margin:0 0 .4rem 1.5rem}code{background:#f4f4f4;padding:0 .2rem}
.box{margin:0 0 1rem}.box td{min-width:3.5rem}
.title{font-weight:600;margin:1.2rem 0 0}.replies td{min-width:7rem}.replies td:first-child{min-width:3.5rem}
p,li,dt,dd,h1,h2,h3,figcaption,summary{overflow-wrap:anywhere}
"""


def document(title: str, parts: Iterable[str]) -> str:
    """Return a page of parts that are HTML already; the title is not, and is escaped."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{hypertext(title)}</title><style>{STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def headed(page: Page) -> str:
    """Return a result as HTML, with headings; a table without a title is called by the heading above it."""
    parts, heading = [], "table"
    for block in page.blocks:
        if isinstance(block, Heading):
            heading = block.text
            parts.append(f"<h2>{hypertext(heading)}</h2>")
        elif isinstance(block, Grid):
            parts.append(block.to_html(heading))
        else:
            parts.append(Page((block,)).to_html())
    return "".join(parts)


def definitions(told: dict[str, str]) -> str:
    """Return words and what they mean as a list."""
    rows = "".join(f"<dt>{hypertext(word)}</dt><dd>{hypertext(what)}</dd>" for word, what in told.items())
    return f"<dl>{rows}</dl>"


def described(svg: str, caption: str, numbers: str = "") -> str:
    """Return a drawing with a caption below it; those who do not see it are told the numbers as well."""
    said = hypertext(f"{caption} {numbers}".strip())
    below = hypertext(caption)
    return f'<figure><div role=img aria-label="{said}">{svg}</div><figcaption class=note>{below}</figcaption></figure>'
