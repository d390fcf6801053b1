import base64
from collections.abc import Callable
from html.parser import HTMLParser

import numpy as np
import pytest

from transferset.images import decode
from transferset.report import figure, page, table, text, thumbnail

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "a&amp;b",
    "line\x1b[31mred\x00\x07",
    "\u202egnp.exe",
    "bad \udcff byte",
]


TAGS = "html head meta title style body h1 figure img figcaption table thead tbody tr th td"


class Reader(HTMLParser):
    def __init__(self, document: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.extend(attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text_and_never_markup(name: str) -> None:
    body = figure("data:,x", text(name)) + table([name], [[text(name)]])
    document = page(name, body)
    document.encode("utf-8")
    read = Reader(document)
    assert set(read.tags) <= set(TAGS.split())
    assert read.tags.count("img") == 1
    assert not [key for key, _ in read.attributes if key.startswith("on")]
    assert read.text.count(Reader(text(name)).text) == 5  # title, heading, caption, column, cell
    assert not set(read.text) & set("\x00\x07\x1b\u202e")


def test_readable_text_stays_as_it_is() -> None:
    assert text("Grün 漢字 é 🦆") == "Grün 漢字 é 🦆" and text(3.5) == "3.5" and text(None) == "None"
    assert text("a\x00b\x1b") == "a\\x00b\\x1b"


def test_the_page_loads_nothing() -> None:
    document = page("t", "")
    assert "default-src 'none'" in document and "http:" not in document and "https:" not in document


def test_thumbnails_fit_and_keep_the_ratio(picture: Callable[..., np.ndarray]) -> None:
    uri = thumbnail(picture(300, 150), side=64)
    head, _, data = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    assert decode(base64.b64decode(data)).shape == (32, 64, 3)
    assert decode(base64.b64decode(thumbnail(picture(10, 8)).partition(",")[2])).shape == (8, 10, 3)
