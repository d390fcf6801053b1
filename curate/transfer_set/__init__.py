"""What retrieval writes: shards with provenance, tables, a manifest and a report.

    shards/000000.tar …   <item id>.<ext> (the pool's own bytes) and <item id>.json (provenance)
    samples.parquet       one row per sample, with the place of its image's bytes
    queries.parquet       one row per query: quota, what it got, the similarity at which it closed
    removed.parquet       what was kept out, and why
    report.html           to look at; plots/*.png are its plots
    manifest.json         written last: arguments, numbers, what was checked against leakage, checksums

The same index, queries and arguments give the same bytes: no time, host or absolute path is in them.

From an index over URLs (manifest `id_kind`: url) a set comes without images (`bytes`: to fetch): no shards,
shard, offset and size are null, and samples.parquet also has key, caption, width and height. `curate fetch`
makes `bytes` written. Then `item_id` is still the URL's id, by which the index knows the image; the id of the
bytes is `bytes_id`, in samples.parquet and in the JSON, and it is what a sample's members are named by.
`agreement` is the cosine of the image and the index's row, where no recorded hash decided. queries.parquet
has `fetched`, and

    not_fetched.parquet   the chosen images that are not in the set, with place, reason, detail, transient
"""
