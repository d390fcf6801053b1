"""`curate fetch`: the bytes of a transfer set that was retrieved from an index over URLs.

    addresses.py   which addresses may be connected to, and connecting to just those
    urls.py        URLs made fit for a request
    opt_out.py     what hosts forbid in their headers
    opener.py      urllib's opener within limits: addresses, bytes, time, redirects, schemes
    explanations.py, reasons.py   what went wrong, and the words for it
    processes.py   the processes that download
    worker.py      what they run: img2dataset's downloader on that opener
    chunks.py      what a download leaves on disk, some hundred URLs at a time
    download.py    rounds over chunks
    state.py       the folder `.fetch` of an unfinished run
    checks.py      what came: decoded, hashed, compared with the index's row
    agreement.py   how alike an image and its row must be
    verdicts.py    what of it is kept, and why the rest is not
    copies.py      copies of excluded images and of each other
    writing.py     shards, tables, manifest
    report.py      the page to look at

`completion.fetch` is the command as a function.
"""
