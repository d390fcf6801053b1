"""The command `curate info`."""

from typing import Any

from curate import options
from transferset.console import print_json, print_table


def info(index: options.Index, json: options.AsJson = False) -> None:
    """Describe an index."""
    from curate.index.info import info as describe

    found = describe(index)
    if json:
        print_json(found)
        return
    print_table(
        f"Index {index}",
        ["", ""],
        [[name, _plain(value)] for name, value in found.items() if name != "index"],
    )


def _plain(value: Any) -> str:
    """A value of `info` as one cell."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items()) or "none"
    if isinstance(value, list):
        return "; ".join(_plain(one) for one in value)
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:,}" if isinstance(value, int) else str(value)
