import html.parser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate.index.index import open_index
from curate.retrieval import RetrieveOptions, retrieve
from curate.selection.select_options import SelectOptions
from curate.transfer_set import balance, contact_sheets, pictures
from transferset.writes import read_json, sha256_file

Make = Callable[..., Any]
PLOTS = ("closing_similarity", "directions", "images_per_class", "images_per_query", "similarity")
QUESTIONS = (
    "Is it balanced?",
    "Is it redundant?",
    "Is it clean?",
    "Would more help?",
    "What did I get?",
)


class _Page(html.parser.HTMLParser):
    """`verdicts` by question; `photos` and `plots` count the pictures of each kind, `kinds` are frames."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.kinds: list[str] = []
        self.verdicts: dict[str, str] = {}
        self._in, self._question = "", ""
        self.feed(text)
        self.photos = sum(link.startswith("data:image/jpeg;base64,") for link in self.links)
        self.plots = sum(link.startswith("data:image/png;base64,") for link in self.links)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "figure":
            self.kinds.append(given.get("class") or "")
        self._in = "verdict" if given.get("class") == "verdict" else tag

    def handle_data(self, data: str) -> None:
        if self._in == "h2" and data.strip():
            self._question = data
        if self._in == "verdict" and data.strip():
            self.verdicts[self._question] = data
            self._in = ""


def _report(small_pool: Any, query_dir: Path, out: Path, **selection: Any) -> str:
    amount = {} if "per_query" in selection else {"total": 24}
    options = RetrieveOptions(SelectOptions(**amount | selection), workers=2)
    retrieve(small_pool.index, query_dir, out, options)
    return (out / "report.html").read_text(encoding="utf-8")


def test_every_question_is_answered_in_a_sentence(small_pool: Any, query_dir: Path, tmp_path: Path) -> None:
    page = _Page(_report(small_pool, query_dir, tmp_path / "out"))
    assert tuple(page.verdicts) == QUESTIONS
    assert page.verdicts["Is it balanced?"] == "Yes: every query got its 6 images."
    assert page.verdicts["Is it clean?"].startswith("Unknown")
    assert page.verdicts["What did I get?"].startswith("24 images for 4 queries in 2 classes")
    assert all(verdict.endswith(".") for verdict in page.verdicts.values())


def test_every_query_stands_with_its_images(small_pool: Any, query_dir: Path, tmp_path: Path) -> None:
    text = _report(small_pool, query_dir, tmp_path / "out")
    page = _Page(text)
    assert page.kinds.count("query") == 4
    assert page.photos == 4 + 24 + 2 * 6, "queries, their images, and the six furthest of each class"
    assert "<h3>red</h3>" in text and "<h3>blue</h3>" in text
    assert "Leakage: not checked" in text


def test_the_page_stands_alone_and_its_plots_beside_it(
    small_pool: Any, query_dir: Path, tmp_path: Path
) -> None:
    page = _Page(_report(small_pool, query_dir, tmp_path / "out"))
    assert page.plots == len(PLOTS)
    assert page.links and all(link.startswith(("data:image/", "#")) for link in page.links)
    files = read_json(tmp_path / "out" / "manifest.json")["files"]
    for name in PLOTS:
        path = tmp_path / "out" / "plots" / f"{name}.png"
        assert files[f"plots/{name}.png"] == sha256_file(path)
        assert path.read_bytes().startswith(b"\x89PNG") and b"matplotlib" not in path.read_bytes()


def test_written_twice_it_has_the_same_bytes(small_pool: Any, query_dir: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        _report(small_pool, query_dir, tmp_path / name)
    first, second = (read_json(tmp_path / name / "manifest.json") for name in ("a", "b"))
    assert first == second and "report.html" in first["files"]


def test_a_damaged_plot_is_written_again(small_pool: Any, query_dir: Path, tmp_path: Path) -> None:
    _report(small_pool, query_dir, tmp_path / "out")
    path = tmp_path / "out" / "plots" / "similarity.png"
    whole = path.read_bytes()
    path.write_bytes(b"half")
    _report(small_pool, query_dir, tmp_path / "out")
    assert path.read_bytes() == whole


def test_an_image_of_another_kind_is_marked(
    small_pool: Any, query_dir: Path, tmp_path: Path, tinted: Make, encode: Make
) -> None:
    for number in range(5):
        (query_dir / "red" / f"{number}.png").write_bytes(encode(tinted(0, 900 + number), "png"))
    (query_dir / "red" / "stray.png").write_bytes(encode(tinted(2, 950), "png"))
    text = _report(small_pool, query_dir, tmp_path / "out", per_query=4)
    odd = read_json(tmp_path / "out" / "manifest.json")["measures"]["odd_images"]
    assert odd["red"] == 4 and odd.get("blue", 0) <= 1
    assert _Page(text).kinds.count("odd") == 2 * sum(odd.values()), "in their rows, and among the furthest"
    text = _report(small_pool, query_dir, tmp_path / "few", per_query=1)
    assert "odd" not in _Page(text).kinds, "too few to tell"


def test_names_and_captions_are_text(small_pool: Any, query_dir: Path, tmp_path: Path) -> None:
    name = "<script>$\\frac{1$ alert(1)</script>\u6f22".replace("/", "\u2215")
    (query_dir / "red").rename(query_dir / name)
    text = _report(small_pool, query_dir, tmp_path / "out")
    assert "<script" not in text and "&lt;script&gt;" in text
    assert "<b>tint</b>" not in text and "&lt;b&gt;tint&lt;/b&gt;" in text


def test_a_random_set_shows_what_was_drawn(small_pool: Any, query_dir: Path, tmp_path: Path) -> None:
    page = _Page(_report(small_pool, query_dir, tmp_path / "out", strategy="random"))
    assert (page.photos, page.plots) == (24, 1)
    assert tuple(page.verdicts) == QUESTIONS
    assert "drawn at random" in page.verdicts["What did I get?"]
    assert page.verdicts["Is it redundant?"].startswith("No")
    assert read_json(tmp_path / "out" / "manifest.json")["measures"]["saturation"] is None


def test_best_match_is_told_to_be_uneven(small_pool: Any, query_dir: Path, tmp_path: Path) -> None:
    page = _Page(_report(small_pool, query_dir, tmp_path / "out", strategy="best-match"))
    assert page.verdicts["Is it balanced?"].startswith("No: ")


def test_more_than_the_pool_holds_is_told(small_pool: Any, query_dir: Path, tmp_path: Path) -> None:
    page = _Page(_report(small_pool, query_dir, tmp_path / "out", total=400))
    assert page.verdicts["Would more help?"].startswith("This pool has no more for 4 queries")
    assert page.verdicts["Is it balanced?"].startswith("No: 4 of 4 queries got fewer")


def test_one_query_of_no_class_and_one_image_are_enough(
    small_pool: Any, query_dir: Path, tmp_path: Path
) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    (query_dir / "red" / "0.png").rename(flat / "one.png")
    for amount in (1, 24):
        page = _Page(_report(small_pool, flat, tmp_path / f"out{amount}", total=amount))
        assert tuple(page.verdicts) == QUESTIONS
        assert page.plots == len(PLOTS) - 1, "no plot of classes"


def test_many_classes_make_no_endless_page(
    small_pool: Any, tmp_path: Path, tinted: Make, encode: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contact_sheets, "MOST_SHEETS", 10)
    monkeypatch.setattr(contact_sheets, "MOST_PICTURES", 100)
    monkeypatch.setattr(balance, "MOST_ROWS", 12)
    for number in range(40):
        (tmp_path / "q" / f"class{number:02d}").mkdir(parents=True)
        data = encode(tinted(number % 3, 2000 + number), "png")
        (tmp_path / "q" / f"class{number:02d}" / "0.png").write_bytes(data)
    text = _report(small_pool, tmp_path / "q", tmp_path / "out", total=40)
    page = _Page(text)
    assert text.count("<h3>class") == 10 and "10 of 40 classes are shown" in text
    assert "12 of 40 classes: those that got the smallest share" in text
    assert page.photos <= 100


def test_a_full_page_goes_on_in_words(
    small_pool: Any, query_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "MOST_BYTES", 20_000)
    page = _Page(text := _report(small_pool, query_dir, tmp_path / "out"))
    assert 0 < page.photos < 20
    assert text.count("(no picture)") == 40 - page.photos


def test_what_cannot_be_read_leaves_its_caption(small_pool: Any, tmp_path: Path) -> None:
    shown = pictures.Pictures(open_index(small_pool.index))
    text = shown.figures([pictures.Picture(tmp_path / "gone.jpg", "gone")])
    assert "gone" in text and "<img" not in text
