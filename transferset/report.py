"""Pieces of the HTML reports: one self-contained page, escaped text, thumbnails, tables.

`text` makes anything safe to insert; what `page`, `figure` and `table` are given as `…_html`, `body` or
`rows_html` must have been made of these functions.
"""

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from transferset.console import visible

_STYLE = """
:root { color-scheme: light dark; --line: #8885; --soft: #8882; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; border-bottom: 1px solid var(--line); margin-top: 2rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .75rem; text-align: left; }
td { vertical-align: top; }
th { background: var(--soft); } td.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { display: inline-block; margin: .25rem; vertical-align: top; max-width: 10rem; }
figure img { display: block; border-radius: 4px; max-width: 100%; }
figcaption { font-size: .75rem; overflow-wrap: anywhere; }
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


def figure(image_uri: str, caption_html: str) -> str:
    """An image with a caption (already HTML)."""
    return f'<figure><img src="{text(image_uri)}" alt=""><figcaption>{caption_html}</figcaption></figure>'


def table(columns: Sequence[str], rows_html: Sequence[Sequence[str]]) -> str:
    """A table: column names are escaped, cells are already HTML."""
    head = "".join(f"<th>{text(column)}</th>" for column in columns)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows_html)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
