"""What a host's X-Robots-Tag headers say about machines that learn from its images.

img2dataset looks at these headers too, but takes everything before a colon for the name of a robot, so that
"noai, unavailable_after: 25 Jun 2030" says nothing to it, and looks at the last answer only. Here directives
with values are known, `none` means what it means (noindex, nofollow), and every hop is asked.
"""

from collections.abc import Collection, Iterable

_WITH_VALUES = ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview")
_NONE = ("noindex", "nofollow")


def opts_out(values: Iterable[str], token: str, directives: Collection[str]) -> str | None:
    """The directive by which one of the headers' `values` forbids the use; None if none does.

    A value may begin with a robot's name and a colon; then it counts for `token` of that name only.
    """
    refused = {one.strip().lower() for one in directives}
    for value in values:
        robot, said = _parse(value)
        if robot is None or robot == token.strip().lower():
            for directive in said:
                if directive in refused or (directive == "none" and refused & set(_NONE)):
                    return directive
    return None


def _parse(value: str) -> tuple[str | None, list[str]]:
    """The robot that a header is for (None: all), and its directives without their values."""
    text = value.strip().lower()
    name, colon, rest = text.partition(":")
    robot = None
    if colon and "," not in name and name.strip() not in _WITH_VALUES:
        robot, text = name.strip(), rest
    return robot, [one.partition(":")[0].strip() for one in text.split(",")]
