"""`distill check`: parses, calls one library function, prints."""

from distill import options
from transferset.console import print_json
from transferset.label_lists import with_image_root

MAX_PIXELS = 100_000_000  # of transferset.images, which is slow to import


def check(
    data: options.Labelled,
    image_root: options.ImageRoot = None,
    out: options.CheckReport = None,
    max_pixels: options.MaxPixels = MAX_PIXELS,
    workers: options.Workers = None,
    as_json: options.AsJson = False,
) -> None:
    """Look labelled splits over: copies between and within them, labels that conflict, classes, damage."""
    from distill.stages.check import CheckOptions
    from distill.stages.check import check as run
    from distill.tables_check import print_check

    report = run(CheckOptions(with_image_root(data, image_root), out, max_pixels, workers))
    print_json(report.to_dict()) if as_json else print_check(report)


COMMANDS = (check,)
