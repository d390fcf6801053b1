import html.parser
from pathlib import Path
from typing import Any

import pytest

from curate.index.index import open_index
from curate.retrieval import RetrieveOptions, retrieve
from curate.selection.selection import SelectOptions
from curate.transfer_set import pictures


class _Page(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]


def _report(small_pool: Any, query_dir: Path, out: Path, **selection: Any) -> str:
    options = RetrieveOptions(SelectOptions(total=24, **selection), workers=2)
    retrieve(small_pool.index, query_dir, out, options)
    return (out / "report.html").read_text(encoding="utf-8")


def test_every_query_stands_with_its_images(small_pool: Any, query_dir: Path, tmp_path: Path) -> None:
    text = _report(small_pool, query_dir, tmp_path / "out")
    page = _Page(text)
    assert page.tags.count("img") == 4 + 24
    assert all(link.startswith("data:image/jpeg;base64,") for link in page.links)
    assert "<h2>red</h2>" in text and "<h2>blue</h2>" in text
    assert "Leakage: not checked" in text


def test_names_and_captions_are_text(small_pool: Any, query_dir: Path, tmp_path: Path) -> None:
    (query_dir / "red").rename(query_dir / "<script>alert(1)</script>".replace("/", "\u2215"))
    text = _report(small_pool, query_dir, tmp_path / "out")
    assert "<script" not in text and "&lt;script&gt;" in text
    assert "<b>tint</b>" not in text and "&lt;b&gt;tint&lt;/b&gt;" in text


def test_a_random_set_shows_what_was_drawn(small_pool: Any, query_dir: Path, tmp_path: Path) -> None:
    text = _report(small_pool, query_dir, tmp_path / "out", strategy="random")
    assert _Page(text).tags.count("img") == 24
    assert "Drawn at random" in text and "Balance" not in text


def test_a_full_page_goes_on_in_words(
    small_pool: Any, query_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "MOST_BYTES", 20_000)
    text = _report(small_pool, query_dir, tmp_path / "out")
    assert len(text) < 60_000
    assert 0 < _Page(text).tags.count("img") < 20
    assert text.count("(no picture)") > 0


def test_what_cannot_be_read_leaves_its_caption(small_pool: Any, tmp_path: Path) -> None:
    shown = pictures.Pictures(open_index(small_pool.index))
    text = shown.figures([pictures.Picture(tmp_path / "gone.jpg", "gone")])
    assert "gone" in text and "<img" not in text
