"""Copies in a labelled set: exact ones by bytes and pixels, near ones suspected cheaply and confirmed on
pixels."""

import hashlib
import json
from itertools import groupby

from distill.splits.facts import Facts, cache_folder, look
from distill.splits.overlap import BYTES, NEAR, PIXELS, Overlap, Pair, lies_across, ordered
from distill.splits.suspects import Suspect, suspects
from transferset.alignment import SAME_PICTURE, agreement_near
from transferset.copies import pixel_hash
from transferset.cores import available_cores
from transferset.errors import DataError
from transferset.images import MAX_PIXELS, decode
from transferset.labelled import LabelledSet
from transferset.open_files import raise_if_too_many_files
from transferset.parallel import ordered_map
from transferset.progress import progress
from transferset.sketch import Sketch
from transferset.writes import read_json, write_json

LARGEST = 30_000
"""Near copies are searched in sets up to this size: the cost grows with its square."""

_LEAST_LAID = 2_000
_VERSION = 2

Confirmed = tuple[list[tuple[int, int, float]], int, int]  # (first, second, agreement), suspects, unchecked


def find_overlap(
    labelled: LabelledSet, *, max_pixels: int = MAX_PIXELS, workers: int | None = None
) -> Overlap:
    """Look at every image of the set, compare all with all, within splits and between them.

    The most promising suspects are laid over each other, at most one for every two images (2,000 at least):
    so the cost stays bounded, and `unchecked` says how many were left. What an earlier command has found is
    taken from the cache (`cache_folder`). An image that cannot be read is left to who uses it.
    """
    workers = available_cores() if workers is None else max(1, workers)
    images = labelled.images
    facts = look(labelled.root, [image.path for image in images], max_pixels, workers)
    exact = _exact(labelled, facts, max_pixels)
    repeated = {pair.second for pair in exact}
    distinct = [place for place in facts.readable if place not in repeated]
    searched = len(distinct) <= LARGEST
    found: Confirmed = _remembered(labelled, facts, distinct, workers) if searched else ([], 0, 0)
    near = []
    for one, other, value in found[0]:
        first, second = ordered(labelled, (one, other))
        near.append(Pair(first, second, NEAR, value))
    return Overlap(
        labelled=labelled,
        exact=tuple(exact),
        near=tuple(sorted(_with_repeats(labelled, near, exact), key=lambda pair: (pair.first, pair.second))),
        unreadable=facts.reasons,
        ids=tuple(None if fact is None else fact.item_id.hex() for fact in facts.images),
        suspects=found[1],
        unchecked=found[2],
        near_searched=searched,
    )


def _exact(labelled: LabelledSet, facts: Facts, max_pixels: int) -> list[Pair]:
    """One pair for every image that repeats another: in another split if there is one, else of its label."""
    by_id = {place: facts.id(place) for place in facts.readable}
    pairs = _repeats(labelled, by_id, BYTES)
    first_of = {pair.second: pair.first for pair in pairs}
    by_sketch = {}
    for place, fact in enumerate(facts.images):
        if fact is not None and place not in first_of:
            by_sketch[place] = fact.sketch.grey.tobytes()
    alike = [place for group in _groups(by_sketch) for place in group]
    by_pixels = {}
    for place in alike:
        try:
            rgb = decode(labelled.images[place].path.read_bytes(), max_pixels=max_pixels)
        except (OSError, DataError) as error:
            raise_if_too_many_files(error)
            continue
        by_pixels[place] = pixel_hash(rgb)
    known = {by_id[place]: pixels for place, pixels in by_pixels.items()}
    for place in first_of:  # what repeats an image has its pixels
        if by_id[place] in known:
            by_pixels[place] = known[by_id[place]]
    found = {pair.second: pair for pair in pairs}
    for pair in _repeats(labelled, by_pixels, PIXELS):
        if pair.second not in found or (
            lies_across(labelled, pair) > lies_across(labelled, found[pair.second])
        ):
            found[pair.second] = pair
    return sorted(found.values(), key=lambda pair: (pair.first, pair.second))


def _with_repeats(labelled: LabelledSet, near: list[Pair], exact: list[Pair]) -> list[Pair]:
    """Near copies, and those that the repeats of one of two are of the other, in another split."""
    repeats: dict[int, list[int]] = {}
    first_of = {pair.second: pair.first for pair in exact}
    for place in first_of:
        first = first_of[place]
        while first in first_of:
            first = first_of[first]
        repeats.setdefault(first, []).append(place)
    found = {(pair.first, pair.second): pair for pair in near}
    for pair in near:
        for one in (pair.first, *repeats.get(pair.first, ())):
            for other in (pair.second, *repeats.get(pair.second, ())):
                first, second = ordered(labelled, (one, other))
                more = Pair(first, second, NEAR, pair.agreement)
                if lies_across(labelled, more):
                    found.setdefault((first, second), more)
    return list(found.values())


def _groups(keys: dict[int, bytes]) -> list[list[int]]:
    """Places with the same key, where there are several."""
    places = sorted(keys, key=lambda place: (keys[place], place))
    groups = [list(group) for _, group in groupby(places, key=keys.__getitem__)]
    return [group for group in groups if len(group) > 1]


def _repeats(labelled: LabelledSet, keys: dict[int, bytes], kind: str) -> list[Pair]:
    pairs = []
    for group in _groups(keys):
        members = ordered(labelled, group)
        for number, place in enumerate(members[1:], start=1):
            one = labelled.images[place]
            before = members[:number]
            elsewhere = [other for other in before if labelled.images[other].split != one.split]
            same_label = [other for other in before if labelled.images[other].label == one.label]
            pairs.append(Pair((elsewhere or same_label or before)[0], place, kind))
    return pairs


def _remembered(labelled: LabelledSet, facts: Facts, places: list[int], workers: int) -> Confirmed:
    """Near copies among images of these places, from the cache if the same images were compared before."""
    digest = hashlib.sha256(f"near {_VERSION} {SAME_PICTURE}".encode())
    for place in places:
        digest.update(facts.id(place) + str(labelled.images[place].split).encode() + b"\0")
    path = cache_folder() / "splits" / f"near-{digest.hexdigest()[:24]}.json"
    try:
        known = read_json(path) if path.is_file() else None
    except DataError:
        known = None
    if known is None:
        pairs, looked_at, left = _compared(labelled, facts, places, workers)
        known = {"pairs": pairs, "suspects": looked_at, "unchecked": left}
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_json(path, known)
        except OSError:
            pass
        known = json.loads(json.dumps(known))
    found = [(places[one], places[other], float(value)) for one, other, value in known["pairs"]]
    return found, int(known["suspects"]), int(known["unchecked"])


def _compared(
    labelled: LabelledSet, facts: Facts, places: list[int], workers: int
) -> tuple[list[tuple[int, int, float]], int, int]:
    given = [fact for place in places if (fact := facts.images[place]) is not None]
    splits = [labelled.images[place].split for place in places]
    found = suspects(given, splits, workers)
    most = max(_LEAST_LAID, len(places) // 2)

    def confirm(one: Suspect) -> tuple[int, int, float]:
        original, copy = (Sketch(given[place].sketch.grey) for place in (one.original, one.copy))
        return one.original, one.copy, round(agreement_near(original, copy, one.scale, one.mirrored), 2)

    confirmed: dict[tuple[int, int], tuple[int, int, float]] = {}
    with progress("compare suspects", min(most, len(found)), "pairs") as bar:
        for result in ordered_map(confirm, found[:most], workers, 4 * workers):
            key = min(result[:2]), max(result[:2])
            if result[2] >= max(SAME_PICTURE, confirmed.get(key, (0, 0, 0.0))[2]):
                confirmed[key] = result
            bar.advance()
    return list(confirmed.values()), len(found[:most]), len(found) - len(found[:most])
