"""Parts: how sources are cut into units of work. The same sources in the same order give the same parts."""

from collections.abc import Callable, Iterable, Iterator

from curate.pools.items import PlannedPart, Source

TAR_IMAGES = 1_000
FOLDER_FILES = 10_000


def plan_parts(sources: Iterable[Source], count: Callable[[Source], int]) -> Iterator[PlannedPart]:
    """Yield the parts of `sources` (tars first, as `list_pools` orders them).

    A tar or table with at least 1,000 images is a part; smaller ones are put together, whole, until they have
    that many. A piece of ready embeddings is a part.
    Loose files go by 10,000. Parts come out such that leaving out a finished beginning changes nothing in the
    rest: that is what makes a resumed build equal to an unbroken one. `count` gives the number of images of a
    tar or table.
    """
    group: list[Source] = []
    images = 0
    files: list[Source] = []
    for source in sources:
        if not source.holds_many:
            files.append(source)
            continue
        if source.is_embeddings:
            yield PlannedPart((source,), source.rows)
            continue
        number = count(source)
        if number >= TAR_IMAGES:
            yield PlannedPart((source,), number)
            continue
        group.append(source)
        images += number
        if images >= TAR_IMAGES:
            yield PlannedPart(tuple(group), images)
            group, images = [], 0
    if group:
        yield PlannedPart(tuple(group), images)
    for start in range(0, len(files), FOLDER_FILES):
        chunk = tuple(files[start : start + FOLDER_FILES])
        yield PlannedPart(chunk, len(chunk))
