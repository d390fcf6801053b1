"""Pieces of the HTML reports: one self-contained page, escaped text, thumbnails, tables.

`text` makes anything safe to insert; what `page`, `figure` and `table` are given as `…_html`, `body` or
`rows_html` must have been made of these functions.
"""

import base64
import html
import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from transferset.console import visible
from transferset.errors import DataError
from transferset.images import decode

NO_CLASS = "(no class)"

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --quiet: #767676; --mark: #d9742b;
  --own: #2f6db5; }
@media (prefers-color-scheme: dark) { :root { --quiet: #9b9b9b; --own: #6aa5e8; } }
body { font: 15px/1.55 system-ui, sans-serif; margin: 2rem auto 4rem; max-width: 70rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .5rem; }
h2 { font-size: 1.2rem; margin: 3rem 0 .25rem; padding-top: .75rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 2rem 0 .1rem; }
p { max-width: 46rem; margin: .4rem 0; overflow-wrap: anywhere; }
p.verdict { font-size: 1.05rem; font-weight: 600; }
p.warning { border-left: 3px solid var(--mark); padding-left: .75rem; }
p.quiet, figcaption { color: var(--quiet); }
a { color: inherit; text-decoration-color: var(--line); text-underline-offset: .2em; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; font-size: .875rem; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem 1.25rem .3rem 0; text-align: left; }
td { vertical-align: top; font-variant-numeric: tabular-nums; }
summary { cursor: pointer; margin: .75rem 0; }
th { font-weight: 600; color: var(--quiet); vertical-align: bottom; }
figure { display: inline-block; margin: .25rem; vertical-align: top; max-width: 10rem; }
figure img { display: block; border-radius: 3px; max-width: 100%; }
figcaption { font-size: .72rem; line-height: 1.35; margin-top: .2rem; overflow-wrap: anywhere; }
.answers td:first-child { min-width: 5.5rem; }
@media (min-width: 40rem) { .answers td:first-child { white-space: nowrap; } }
.row { display: flex; flex-wrap: wrap; gap: .5rem; padding: .5rem 0; }
.row figure { margin: 0; width: 96px; }
.row + .row { border-top: 1px solid var(--soft); }
figure.query img { outline: 2px solid var(--own); outline-offset: 1px; }
figure.odd img { outline: 2px solid var(--mark); outline-offset: 1px; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0; align-items: flex-start; }
.plots figure { margin: 0; max-width: 26rem; }
.plots figcaption { font-size: .8rem; }
.plots img { width: 26rem; max-width: 100%; background: #fff; border-radius: 4px; }
@media print { h2, h3, .row, .plots img { break-inside: avoid; break-after: avoid-page; } }
@media (max-width: 30rem) { .row figure { width: 80px; } body { margin-top: 1rem; } }
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(title: str, body: str) -> str:
    """A complete HTML document with its style inline; it loads nothing and runs no script. `title` is
    escaped."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{text(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def text(value: object) -> str:
    """`value` as text for HTML, in or out of attributes: markup escaped, control characters made visible."""
    return html.escape(visible(value), quote=True)


def thumbnail(rgb: np.ndarray, side: int = 96) -> str:
    """A data: URI (JPEG) of an image (h, w, 3) uint8, scaled down to fit a square of `side` pixels."""
    image = Image.fromarray(rgb)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def thumbnail_of(read: Callable[[], bytes], side: int = 96) -> str:
    """A thumbnail of an encoded image; empty if its bytes can't be had or decoded."""
    try:
        return thumbnail(decode(read(), short_side=side), side)
    except (DataError, OSError):
        return ""


def class_name(label: str | None) -> str:
    """A class's name, escaped."""
    return NO_CLASS if label is None else text(label)


def figure(image_uri: str, caption_html: str, kind: str = "") -> str:
    """An image with a caption (already HTML); the kinds "query" and "odd" have a frame. Without a URI
    only the caption stands there."""
    image = f'<img src="{text(image_uri)}" alt="">' if image_uri else "(no picture)<br>"
    marked = f' class="{text(kind)}"' if kind else ""
    return f"<figure{marked}>{image}<figcaption>{caption_html}</figcaption></figure>"


def plot(png: bytes, description: str, *, captioned: bool = False) -> str:
    """A plot, in the page itself; `description` is for those who can't see it, or for everyone, below it."""
    uri = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    image = f'<img src="{uri}" alt="{text(description)}">'
    return f"<figure>{image}<figcaption>{text(description)}</figcaption></figure>" if captioned else image


def table(columns: Sequence[str], rows_html: Sequence[Sequence[str]]) -> str:
    """A table: column names are escaped, cells are already HTML."""
    head = "".join(f"<th>{text(column)}</th>" for column in columns)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows_html)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
