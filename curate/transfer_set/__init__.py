"""What retrieval writes: shards with provenance, tables, a manifest and a report.

    shards/000000.tar …   <item id>.<ext> (the pool's own bytes) and <item id>.json (provenance)
    samples.parquet       a row a sample, with the place of its image's bytes
    queries.parquet       a row a query: quota, what it got, the similarity at which it closed
    removed.parquet       what was kept out, and why
    report.html           to look at; plots/*.png are its plots
    manifest.json         written last: arguments, numbers, what was checked against leakage, checksums

The same index, queries and arguments give the same bytes: no time, host or absolute path is in them.
"""
