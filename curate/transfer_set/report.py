"""report.html: five questions about a transfer set, each answered in a sentence, in numbers and in pictures.

What did I get, is it balanced, is it redundant, is it clean, would more help. The page stands alone (pictures
and plots are in it) and its size is bounded; the plots are written beside it too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.selection.guard import ExcludedSet
from curate.selection.queries import QuerySet
from curate.selection.selection import Removed, Selection
from curate.transfer_set import plots
from curate.transfer_set.contact_sheets import ContactSheets
from curate.transfer_set.measures import Measures
from curate.transfer_set.pictures import Pictures
from curate.transfer_set.removed_pictures import removed_pictures
from curate.transfer_set.saturation import Saturation, saturation_of
from transferset.report import page, plot, table, text

if TYPE_CHECKING:
    from curate.index.index import Index

MOST_ROWS = 100
_NEAREST_TO_CHANCE = 8
_LIKE_THE_POOL, _COLLAPSED = 0.6, 0.25


@dataclass(frozen=True)
class Reported:
    """What the report tells; `outcome` and `guard` are the manifest's."""

    index: "Index"
    query_set: QuerySet
    selection: Selection
    excluded: ExcludedSet | None
    outcome: dict[str, Any]
    guard: dict[str, Any]
    measures: Measures

    @property
    def drawn(self) -> bool:
        """Whether the images were drawn at random, for no query."""
        return self.selection.picks[0].query is None

    @property
    def duplicates(self) -> list[Removed]:
        """What was left out because the set has it already."""
        return [one for one in self.selection.removed if "duplicate" in one.why]

    @property
    def leaks(self) -> list[Removed]:
        """What was kept out because it is a query or a copy of an excluded image, queries last."""
        found = [one for one in self.selection.removed if "duplicate" not in one.why]
        return sorted(found, key=lambda one: (one.why == "query", one.why, one.position))


@dataclass(frozen=True)
class Report:
    """The page, and its plots (PNG) by file name."""

    html: str
    plots: dict[str, bytes]


@dataclass(frozen=True)
class _Answer:
    anchor: str
    question: str
    verdict: str
    body: str = ""


def build_report(reported: Reported) -> Report:
    """The page, in one file. Every name and caption in it is escaped."""
    drawings = _draw(reported)
    pictures = Pictures(reported.index)
    answers = [
        _balanced(reported, drawings),
        _redundant(reported, drawings, pictures),
        _clean(reported, pictures),
        _more(reported, drawings),
        _got(reported, pictures),
    ]
    listed = "\n".join(
        f'<tr><td><a href="#{one.anchor}">{text(one.question)}</a></td><td>{text(one.verdict)}</td></tr>'
        for one in (answers[-1], *answers[:-1])
    )
    sections = [
        f'<table class="answers"><tbody>\n{listed}\n</tbody></table>',
        *(f'<p class="quiet">{text(note)}</p>' for note in reported.query_set.notes),
        *(
            f'<h2 id="{one.anchor}">{text(one.question)}</h2>\n<p class="verdict">{text(one.verdict)}</p>\n'
            + one.body
            for one in answers
        ),
        _errors(reported.query_set),
    ]
    return Report(page("Transfer set", "\n".join(one for one in sections if one)), drawings)


def _draw(reported: Reported) -> dict[str, bytes]:
    selection, background = reported.selection, reported.selection.background
    drawn = {"directions.png": plots.spans(reported.measures.span, reported.measures.pool_span)}
    if reported.drawn:
        return drawn
    classes = reported.outcome["classes"]
    drawn["images_per_query.png"] = plots.per_query(selection)
    if len(classes) > 1:
        drawn["images_per_class.png"] = plots.per_class(
            [one["label"] for one in classes], [one["retrieved"] for one in classes]
        )
    drawn["similarity.png"] = plots.similarities(selection, background)
    saturation = saturation_of(selection)
    if saturation is not None:
        drawn["closing_similarity.png"] = plots.closing(saturation)
    return drawn


def _shown(drawings: dict[str, bytes], **described: str) -> str:
    """The plots of these names that there are, with their descriptions."""
    found = [
        plot(drawings[f"{name}.png"], words) for name, words in described.items() if f"{name}.png" in drawings
    ]
    return f'<div class="plots">{"".join(found)}</div>' if found else ""


def _got(reported: Reported, pictures: Pictures) -> _Answer:
    question, outcome = "What did I get?", reported.outcome
    sheets = ContactSheets(
        reported.index, reported.query_set, reported.selection, reported.measures.closeness, pictures
    )
    extra = ""
    if outcome["written_queries"]:
        extra = f"; the {outcome['written_queries']} queries are in the set too"
    if reported.drawn:
        verdict = f"{outcome['retrieved']:,} images, drawn at random from the pool{extra}."
        return _Answer("got", question, verdict, sheets.of_random())
    values = [pick.similarity for pick in reported.selection.picks if pick.similarity is not None]
    odd = sum(one.odd for one in reported.measures.closeness.values())
    verdict = (
        f"{outcome['retrieved']:,} images for {_count(outcome['queries'], 'query', 'queries')} in "
        f"{_count(len(outcome['classes']), 'class', 'classes')}, with a median similarity of "
        f"{median(values):.3f} to their query; {odd or 'none'} {'stand' if odd > 1 else 'stands'} out from "
        f"{'their' if odd > 1 else 'its'} class{extra}."
    )
    return _Answer("got", question, verdict, sheets.of_classes())


def _balanced(reported: Reported, drawings: dict[str, bytes]) -> _Answer:
    question, selection, outcome = "Is it balanced?", reported.selection, reported.outcome
    if reported.drawn:
        return _Answer("balanced", question, "There is nothing to balance: no query drew these images.")
    filled, short = selection.filled, outcome["queries_short_of_their_quota"]
    most = max(filled)
    if not short and most - min(filled) <= 1:
        verdict = f"Yes: every query got its {_range(filled)} images."
    elif not short:
        verdict = f"Every query got what was asked for, {_range(filled)} images."
    else:
        empty = filled.count(0)
        nothing = f", {empty} of them nothing" if empty else ""
        verdict = (
            f"No: {short:,} of {len(filled):,} queries got fewer than their quota{nothing}; "
            f"a query has {_range(filled)} images."
        )
    told = []
    if outcome["missing"]:
        told.append(f"{outcome['missing']:,} of {outcome['requested']:,} images are missing.")
    if outcome["queries_closed_by_the_floor"]:
        told.append(f"The similarity floor closed {outcome['queries_closed_by_the_floor']} queries.")
    told.append(
        f"The images are spread as over {_equal(filled):,.1f} of {len(filled):,} queries with equal shares."
    )
    body = [
        f"<p>{text(' '.join(told))}</p>",
        _shown(
            drawings,
            images_per_query="How many queries got how many images",
            images_per_class="How many images each class got",
        ),
        _class_table(reported),
    ]
    return _Answer("balanced", question, verdict, "\n".join(body))


def _class_table(reported: Reported) -> str:
    selection = reported.selection
    members: dict[str | None, list[int]] = {}
    for number, label in enumerate(reported.query_set.labels):
        members.setdefault(label, []).append(number)
    rows = []
    for label, own in members.items():
        filled, quota = (sum(values[one] for one in own) for values in (selection.filled, selection.quotas))
        closing = [value for one in own if (value := selection.closing[one]) is not None]
        numbers = [
            _name(label),
            str(len(own)),
            f"{filled} of {quota}",
            str(min(selection.filled[one] for one in own)),
            f"{min(closing):.3f}" if closing else "",
            f"{median(closing):.3f}" if closing else "",
        ]
        rows.append((filled / max(1, quota), min(closing, default=-1.0), numbers))
    columns = ["class", "queries", "images", "fewest for a query", "least closing similarity", "median"]
    if len(rows) <= MOST_ROWS:
        return table(columns, [numbers for *_, numbers in rows])
    worst = sorted(rows, key=lambda row: row[:2])[:MOST_ROWS]
    told = (
        f"{MOST_ROWS} of {len(rows)} classes: those that got the smallest share of their quota, then those "
    )
    told += "that closed at the lowest similarity. queries.parquet has all."
    return f'<p class="quiet">{told}</p>' + table(columns, [numbers for *_, numbers in worst])


def _redundant(reported: Reported, drawings: dict[str, bytes], pictures: Pictures) -> _Answer:
    own, pool = reported.measures.span, reported.measures.pool_span
    ratio = own.effective_rank / pool.effective_rank
    numbers = (
        f"its images spread over {own.effective_rank:g} directions, as many random ones of the pool over "
        f"{pool.effective_rank:g}"
    )
    if reported.drawn or ratio >= _LIKE_THE_POOL:
        verdict = f"No: {numbers}."
    elif ratio >= _COLLAPSED:
        verdict = f"Narrower than the pool, as a set for one task is: {numbers}."
    else:
        verdict = f"Much narrower than the pool: {numbers}; look for repeats."
    looked = bool(reported.duplicates) or reported.guard.get("near_duplicates_checked", False)
    told = (
        "Effective rank: the number of equally strong directions that would hold as much variety (the "
        f"exponential of the entropy of the covariance's eigenvalues), on {own.images:,} and {pool.images:,} "
        "images. No two images have the same bytes; "
    )
    told += (
        f"{_count(len(reported.duplicates), 'near-duplicate was', 'near-duplicates were')} left out."
        if looked
        else "near-duplicates were not looked for."
    )
    body = f"<p>{text(told)}</p>" + _shown(
        drawings, directions="Variance held by the first directions, of the set and of the pool"
    )
    return _Answer(
        "redundant",
        "Is it redundant?",
        verdict,
        body + _kept_out(reported, reported.duplicates, pictures),
    )


def _clean(reported: Reported, pictures: Pictures) -> _Answer:
    guard = reported.guard
    queries = sum(one.why == "query" for one in reported.leaks)
    leaks = len(reported.leaks) - queries
    if reported.excluded is None:
        verdict = "Not known: the set was compared with no val or test images."
    elif leaks:
        verdict = f"As far as was checked: {_count(leaks, 'copy', 'copies')} of excluded images removed."
    else:
        verdict = f"As far as was checked: no copy of the {guard['images']} excluded images was found."
    told = [f"Leakage: {guard['statement']}."]
    if reported.excluded is None:
        told.append(f"Not checked: {'; '.join(guard['not_checked'])}.")
    if queries:
        told.append(
            f"{_count(queries, 'image of the pool is a query itself', 'images of the pool are queries')} "
            "and stayed out."
        )
    if reported.leaks:
        told.append(f"Kept out: {_count(len(reported.leaks), 'image', 'images')} of the pool.")
    kind = ' class="warning"' if reported.excluded is None else ""
    body = "\n".join(f"<p{kind}>{text(one)}</p>" for one in told)
    return _Answer("clean", "Is it clean?", verdict, body + _kept_out(reported, reported.leaks, pictures))


def _kept_out(reported: Reported, removed: Sequence[Removed], pictures: Pictures) -> str:
    return removed_pictures(reported.index, reported.query_set, reported.excluded, removed, pictures)


def _more(reported: Reported, drawings: dict[str, bytes]) -> _Answer:
    question = "Would more help?"
    if reported.drawn:
        return _Answer("more", question, "That can't be told: no query drew these images.")
    found = saturation_of(reported.selection)
    shown = _shown(
        drawings,
        similarity="Similarity of the set's images to their queries, and of random images",
        closing_similarity="Best, last and random similarity of every query",
    )
    if found is None:
        return _Answer("more", question, "Not measured: random images were not compared.", shown)
    assert reported.selection.background is not None
    told = (
        f"Random: {reported.selection.background.images:,} images of the pool. For "
        f"{found.related:,} of {len(found.queries):,} queries the last image lies three standard deviations "
        "or more above a random one and keeps half of the lead that the best image has. In a very large pool "
        "chance alone reaches some standard deviations: look at the last picture of the rows below, too."
    )
    return _Answer("more", question, found.verdict(), f"<p>{told}</p>" + shown + _nearest(reported, found))


def _nearest(reported: Reported, found: Saturation) -> str:
    """The queries that ended nearest to chance."""
    rows = []
    for place in np.argsort(found.deviations, kind="stable")[:_NEAREST_TO_CHANCE].tolist():
        query = reported.query_set.queries[int(found.queries[place])]
        rows.append(
            [
                text(query.name),
                _name(query.label),
                *(f"{values[place]:.3f}" for values in (found.best, found.last, found.random)),
                f"{found.deviations[place]:.1f}",
            ]
        )
    columns = ["nearest to chance", "class", "best", "last", "random", "standard deviations above random"]
    return table(columns, rows)


def _errors(query_set: QuerySet) -> str:
    if not query_set.errors:
        return ""
    rows = [[text(error.name), _name(error.label), text(error.reason)] for error in query_set.errors]
    told = f"<p>{len(rows)} are unreadable; {MOST_ROWS} are shown.</p>" if len(rows) > MOST_ROWS else ""
    return "<h2>Unreadable query images</h2>" + told + table(["image", "class", "why"], rows[:MOST_ROWS])


def _equal(filled: Sequence[int]) -> float:
    """How many queries with equal shares are as even as these: exp of the shares' entropy."""
    shares = np.array([one for one in filled if one]) / sum(filled)
    return float(np.exp(-np.sum(shares * np.log(shares))))


def _range(filled: Sequence[int]) -> str:
    low, high = min(filled), max(filled)
    return f"{low}" if low == high else f"{low} to {high}"


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _name(label: str | None) -> str:
    return "(no class)" if label is None else text(label)
