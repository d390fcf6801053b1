"""X-Robots-Tag, as hosts write it."""

import pytest

from curate.fetch.opt_out import opts_out
from curate.fetch.options import OPT_OUT_DIRECTIVES


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["noai"], "noai"),
        (["NoImageAI, nofollow"], "noimageai"),
        (["nofollow", "noindex"], "noindex"),
        (["none"], "none"),
        (["noai, unavailable_after: 25 Jun 2030 15:00:00 PST"], "noai"),
        (["unavailable_after: 25 Jun 2030 15:00:00 PST, noai"], "noai"),
        (["max-image-preview: none, noarchive"], None),
        (["transferset: noimageindex"], "noimageindex"),
        (["TransferSet : noai"], "noai"),
        (["otherbot: noai, noindex"], None),
        (["otherbot: noai", "all"], None),
        (["otherbot: noai", "noai"], "noai"),
        (["index, follow"], None),
        (["", ":", ",,,"], None),
        ([], None),
    ],
)
def test_what_forbids(values: list[str], expected: str | None) -> None:
    assert opts_out(values, "transferset", OPT_OUT_DIRECTIVES) == expected


def test_only_what_is_obeyed_counts() -> None:
    assert opts_out(["noindex, none"], "x", ["noai"]) is None
