"""report.html: five questions about a transfer set, each answered in a sentence, in numbers and in pictures.

What did I get, is it balanced, is it redundant, is it clean, would more help. The page stands alone (pictures
and plots are in it) and its size is bounded; the plots are written beside it too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from curate.selection.queries import QuerySet
from curate.selection.removed import QUERY, Removed
from curate.transfer_set import plots
from curate.transfer_set.answers import MOST_ROWS, Answer, Reported, count, show
from curate.transfer_set.balance import balanced
from curate.transfer_set.contact_sheets import ContactSheets
from curate.transfer_set.pictures import Pictures
from curate.transfer_set.removed_pictures import removed_pictures
from curate.transfer_set.saturation import Saturation, saturation_of
from transferset.report import class_name, page, table, text

_NEAREST_TO_CHANCE = 8
_LIKE_THE_POOL, _COLLAPSED = 0.6, 0.25


@dataclass(frozen=True)
class Report:
    """The page, and its plots (PNG) by file name."""

    html: str
    plots: dict[str, bytes]


def build_report(reported: Reported) -> Report:
    """The page, in one file. Every name and caption in it is escaped."""
    drawings = _draw(reported)
    pictures = Pictures(reported.index)
    answers = [
        balanced(reported, drawings),
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


def _got(reported: Reported, pictures: Pictures) -> Answer:
    question, outcome = "What did I get?", reported.outcome
    sheets = ContactSheets(
        reported.index, reported.query_set, reported.selection, reported.measures.closeness, pictures
    )
    extra = ""
    if outcome["filtered"]:
        extra = f"; filters left out {outcome['filtered']:,} images of the pool"
    if outcome["written_queries"]:
        extra += f"; the {outcome['written_queries']} queries are in the set too"
    if reported.drawn:
        verdict = f"{outcome['retrieved']:,} images, drawn at random from the pool{extra}."
        return Answer("got", question, verdict, sheets.of_random())
    values = [pick.similarity for pick in reported.selection.picks if pick.similarity is not None]
    odd = sum(one.odd for one in reported.measures.closeness.values())
    verdict = (
        f"{outcome['retrieved']:,} images for {count(outcome['queries'], 'query', 'queries')} in "
        f"{count(len(outcome['classes']), 'class', 'classes')}, with a median similarity of "
        f"{median(values):.3f} to their query; {odd or 'none'} {'stand' if odd > 1 else 'stands'} out from "
        f"{'their' if odd > 1 else 'its'} class{extra}."
    )
    return Answer("got", question, verdict, sheets.of_classes())


def _redundant(reported: Reported, drawings: dict[str, bytes], pictures: Pictures) -> Answer:
    own, pool = reported.measures.span, reported.measures.pool_span
    ratio = own.effective_rank / pool.effective_rank
    numbers = (
        f"its images span {own.effective_rank:g} directions, as many random images of the pool span "
        f"{pool.effective_rank:g}"
    )
    if reported.drawn or ratio >= _LIKE_THE_POOL:
        verdict = f"No: {numbers}."
    elif ratio >= _COLLAPSED:
        verdict = f"Narrower than the pool, as expected of a set for one task: {numbers}."
    else:
        verdict = f"Much narrower than the pool: {numbers}; look for repeats."
    looked = bool(reported.duplicates) or reported.guard.get("near_duplicates_checked", False)
    told = (
        "Effective rank: the number of equally strong directions with the same variety (the "
        f"exponential of the entropy of the covariance's eigenvalues), on {own.images:,} and {pool.images:,} "
        "images. No two images have the same bytes; "
    )
    told += (
        f"{count(len(reported.duplicates), 'near-duplicate was', 'near-duplicates were')} left out."
        if looked
        else "near-duplicates were not looked for."
    )
    body = f"<p>{text(told)}</p>" + show(
        drawings, directions="Variance explained by the first directions, of the set and of the pool"
    )
    return Answer(
        "redundant",
        "Is it redundant?",
        verdict,
        body + _kept_out(reported, reported.duplicates, pictures),
    )


def _clean(reported: Reported, pictures: Pictures) -> Answer:
    guard = reported.guard
    queries = sum(one.why == QUERY for one in reported.leaks)
    leaks = len(reported.leaks) - queries
    if reported.excluded is None:
        verdict = "Unknown: the set was not compared with any val or test images."
    elif leaks:
        verdict = f"As far as was checked: {count(leaks, 'copy', 'copies')} of excluded images removed."
    else:
        verdict = f"As far as was checked: no copy of the {guard['images']} excluded images was found."
    told = [f"Leakage: {guard['statement']}."]
    if reported.excluded is None:
        told.append(f"Not checked: {'; '.join(guard['not_checked'])}.")
    if queries:
        told.append(
            f"{count(queries, 'image of the pool is a query itself', 'images of the pool are queries')} "
            "and stayed out."
        )
    if reported.leaks:
        told.append(f"Kept out: {count(len(reported.leaks), 'image', 'images')} of the pool.")
    kind = ' class="warning"' if reported.excluded is None else ""
    body = "\n".join(f"<p{kind}>{text(one)}</p>" for one in told)
    return Answer("clean", "Is it clean?", verdict, body + _kept_out(reported, reported.leaks, pictures))


def _kept_out(reported: Reported, removed: Sequence[Removed], pictures: Pictures) -> str:
    return removed_pictures(reported.index, reported.query_set, reported.excluded, removed, pictures)


def _more(reported: Reported, drawings: dict[str, bytes]) -> Answer:
    question = "Would more help?"
    if reported.drawn:
        return Answer("more", question, "Unknown: no query retrieved these images.")
    found = saturation_of(reported.selection)
    shown = show(
        drawings,
        similarity="Similarity of the set's images to their queries, and of random images",
        closing_similarity="Best, last and random similarity of every query",
    )
    if found is None:
        return Answer("more", question, "Not measured: random images were not compared.", shown)
    assert reported.selection.background is not None
    told = (
        f"Random: {reported.selection.background.images:,} images of the pool. For "
        f"{found.related:,} of {len(found.queries):,} queries the last image lies three standard deviations "
        "or more above a random one and keeps half of the lead that the best image has. In a very large pool "
        "chance alone reaches some standard deviations: look at the last picture of the rows below, too."
    )
    return Answer("more", question, found.verdict(), f"<p>{told}</p>" + shown + _nearest(reported, found))


def _nearest(reported: Reported, found: Saturation) -> str:
    """The queries that ended nearest to chance."""
    rows = []
    for place in np.argsort(found.deviations, kind="stable")[:_NEAREST_TO_CHANCE].tolist():
        query = reported.query_set.queries[int(found.queries[place])]
        rows.append(
            [
                text(query.name),
                class_name(query.label),
                *(f"{values[place]:.3f}" for values in (found.best, found.last, found.random)),
                f"{found.deviations[place]:.1f}",
            ]
        )
    columns = ["nearest to chance", "class", "best", "last", "random", "standard deviations above random"]
    return table(columns, rows)


def _errors(query_set: QuerySet) -> str:
    if not query_set.errors:
        return ""
    rows = [[text(error.name), class_name(error.label), text(error.reason)] for error in query_set.errors]
    told = f"<p>{len(rows)} are unreadable; {MOST_ROWS} are shown.</p>" if len(rows) > MOST_ROWS else ""
    return "<h2>Unreadable query images</h2>" + told + table(["image", "class", "why"], rows[:MOST_ROWS])
