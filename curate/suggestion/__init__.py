"""Which images of the pool are worth labelling next.

images/<item id>.<ext>   the suggested images, the pool's own bytes
suggestions.csv          one row per image, the most useful first; `label` is empty, to be filled in
report.html              to look at; plots/coverage.png is its plot
manifest.json            written last: arguments, numbers, checksums
"""
