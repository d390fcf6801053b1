"""Copies: of images that must not be retrieved, and of images that a set has already.

    calibration.py    from where on two images may be copies, for one encoder (`curate calibrate`)
    checks.py         what a selection is checked with
    finished_set.py   a transfer set that is there already (`curate guard`)

What is looked for, and how it is confirmed on pixels, is in `curate.selection` (guard, near_copies,
near_duplicates) and `transferset.alignment`.
"""
