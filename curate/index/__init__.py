"""The index on disk: build, open, search, describe."""

from curate.index.build import TooManyErrors, build_index
from curate.index.compact import CompactOptions, CompactReport, compact
from curate.index.estimate import BuildEstimate, estimate_build
from curate.index.forget import ForgetOptions, ForgetReport, forget
from curate.index.index import Index, open_index
from curate.index.info import info
from curate.index.options import BuildOptions, BuildReport
from curate.index.part import ItemRow, Part
from curate.index.verify import Damaged, VerifyReport, verify

__all__ = [
    "BuildEstimate",
    "BuildOptions",
    "BuildReport",
    "CompactOptions",
    "CompactReport",
    "Damaged",
    "ForgetOptions",
    "ForgetReport",
    "Index",
    "ItemRow",
    "Part",
    "TooManyErrors",
    "VerifyReport",
    "build_index",
    "compact",
    "estimate_build",
    "forget",
    "info",
    "open_index",
    "verify",
]
