"""Is it balanced: what each query and each class got."""

from collections.abc import Sequence
from statistics import median

import numpy as np

from curate.transfer_set.answers import MOST_ROWS, Answer, Reported, show
from transferset.report import class_name, table, text


def balanced(reported: Reported, drawings: dict[str, bytes]) -> Answer:
    """The section with its plots (PNG by file name)."""
    question, selection, outcome = "Is it balanced?", reported.selection, reported.outcome
    if reported.drawn:
        return Answer("balanced", question, "There is nothing to balance: no query retrieved these images.")
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
        f"The images are spread as if over {_equal(filled):,.1f} of {len(filled):,} queries with equal"
        f" shares."
    )
    body = [
        f"<p>{text(' '.join(told))}</p>",
        show(
            drawings,
            images_per_query="How many queries got how many images",
            images_per_class="How many images each class got",
        ),
        _class_table(reported),
    ]
    return Answer("balanced", question, verdict, "\n".join(body))


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
            class_name(label),
            str(len(own)),
            f"{filled} of {quota}",
            str(min(selection.filled[one] for one in own)),
            f"{min(closing):.3f}" if closing else "",
            f"{median(closing):.3f}" if closing else "",
        ]
        rows.append((filled / max(1, quota), min(closing, default=-1.0), numbers))
    columns = ["class", "queries", "images", "fewest per query", "lowest closing similarity", "median"]
    if len(rows) <= MOST_ROWS:
        return table(columns, [numbers for *_, numbers in rows])
    worst = sorted(rows, key=lambda row: row[:2])[:MOST_ROWS]
    told = (
        f"{MOST_ROWS} of {len(rows)} classes: those that got the smallest share of their quota, then those "
    )
    told += "that closed at the lowest similarity. queries.parquet has all."
    return f'<p class="quiet">{told}</p>' + table(columns, [numbers for *_, numbers in worst])


def _equal(filled: Sequence[int]) -> float:
    """How many queries with equal shares are as even as these: exp of the shares' entropy."""
    shares = np.array([one for one in filled if one]) / sum(filled)
    return float(np.exp(-np.sum(shares * np.log(shares))))


def _range(filled: Sequence[int]) -> str:
    low, high = min(filled), max(filled)
    return f"{low}" if low == high else f"{low} to {high}"
