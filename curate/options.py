"""The options of `curate`'s commands, as typer reads them: each once, whichever commands have it."""

from pathlib import Path
from typing import Annotated

import typer

# What goes in and out.
Pools = Annotated[
    list[str],
    typer.Option(
        "--pool",
        help="A folder (tars, Parquet tables and loose images are all read), such a file, a quoted glob, a "
        "folder of ready embeddings (img_emb/, metadata/), or a URL: s3://…, "
        "https://…/shard-{00000..00009}.tar. May be repeated.",
    ),
]
NewIndex = Annotated[
    Path, typer.Option("--index", help="Folder of the index; new, or one to resume or add to.")
]
Index = Annotated[Path, typer.Option("--index", help="Folder of the index.")]
PoolRoots = Annotated[
    list[str] | None, typer.Option("--pool-root", help="OLD=NEW: where a pool is now. May be repeated.")
]
QueryDir = Annotated[
    Path, typer.Option(help="Labelled images: DIR/<class>/*.jpg, a flat folder, or a table image,label.")
]
ExcludeDirs = Annotated[
    list[Path] | None,
    typer.Option(
        "--exclude-dir", help="Folder whose images must not be retrieved: val, test. May be repeated."
    ),
]
Out = Annotated[Path, typer.Option(help="Folder of the transfer set; new, or one to resume.")]
ShardSize = Annotated[int, typer.Option(min=1, help="Samples a shard.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]

# What counts as an image.
PoolMaxPixels = Annotated[
    int | None, typer.Option("--max-pixels", min=1, help="Larger images are errors. Default: 100 million.")
]
QueryMaxPixels = Annotated[
    int, typer.Option("--max-pixels", min=1, help="Larger query images are unreadable.")
]
PoolErrorRate = Annotated[
    float | None,
    typer.Option(
        "--max-error-rate", min=0, max=1, help="Exit with 3 if a larger share of the images is unreadable."
    ),
]
QueryErrorRate = Annotated[
    float | None,
    typer.Option(
        "--max-error-rate",
        min=0,
        max=1,
        help="Exit with 3 if a larger share of the query images is unreadable.",
    ),
]

# The encoder.
EncoderSpec = Annotated[
    str | None,
    typer.Option(
        help="open_clip:MODEL/PRETRAINED, open_clip:local-dir:PATH, timm:NAME, "
        "timm:NAME@WEIGHTS.safetensors or embedded. Default: the index's, or "
        "open_clip:ViT-B-32/laion2b_s34b_b79k.",
        show_default=False,
    ),
]
ImageSize = Annotated[
    int | None, typer.Option(min=1, help="Side of the encoder's input, pixels. Default: the model's own.")
]
Runtime = Annotated[str | None, typer.Option(help="auto, eager or openvino.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Images a run of the encoder. Default: 64.")]
WeightsSeed = Annotated[
    int | None, typer.Option("--seed", help="Of an encoder with random weights. Default: 0.")
]

# The search.
MemoryGb = Annotated[
    float | None,
    typer.Option("--memory-gb", help="Memory that the FAISS file may take. Default: half of the machine's."),
]
Recall = Annotated[
    float | None,
    typer.Option(help="Share of the 100 nearest that the FAISS file has to find. Default: 0.95."),
]
Engine = Annotated[str, typer.Option(help="auto, exact (scans all rows) or faiss (approximate).")]

# What is retrieved.
Total = Annotated[
    int | None, typer.Option(min=1, help="Images to retrieve in all, spread evenly over the queries.")
]
PerQuery = Annotated[int | None, typer.Option(min=1, help="Images to retrieve for each query.")]
Strategy = Annotated[str, typer.Option(help="query-balanced, best-match or random (for comparison).")]
IncludeQueries = Annotated[
    bool, typer.Option("--include-queries", help="Write the queries too; --total counts them.")
]
MinSimilarity = Annotated[
    float | None, typer.Option(min=-1, max=1, help="Least cosine similarity. Default: no floor.")
]
Shortfall = Annotated[
    str, typer.Option(help="What to do about a quota that can't be filled: report, topup or fail.")
]
DrawSeed = Annotated[int, typer.Option("--seed", help="Of what is drawn or shuffled.")]

# Where and how fast.
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, …")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads of the encoder. Default: cores.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Threads that read and decode. Default: cores.")]

# Fetching of URLs.
TransferSet = Annotated[
    Path, typer.Option(help="Folder of a transfer set that was retrieved from an index over URLs.")
]
AllowPrivateHosts = Annotated[
    bool,
    typer.Option(
        "--allow-private-hosts",
        help="Also connect to private, loopback, link-local, multicast and metadata-service addresses.",
    ),
]
Timeout = Annotated[float, typer.Option(help="Seconds without an answer until a connection is given up.")]
MaxSeconds = Annotated[float, typer.Option(help="Seconds for one image in all.")]
MaxBytes = Annotated[int, typer.Option(min=1, help="Larger images are not taken.")]
Retries = Annotated[int, typer.Option(min=0, help="How often to try again what failed for now.")]
RetryFailed = Annotated[
    bool,
    typer.Option("--retry-failed", help="Of a complete set, download again what failed for now."),
]
Processes = Annotated[int, typer.Option(min=1, help="Processes that download.")]
DownloadThreads = Annotated[
    int, typer.Option("--threads", min=1, help="Downloads at a time in each process.")
]
PerHost = Annotated[int, typer.Option(min=1, help="Of these, to one host.")]
UserAgentToken = Annotated[
    str, typer.Option(help="Name in the requests, which hosts' opt-out headers may address.")
]
MinAgreement = Annotated[
    float | None,
    typer.Option(
        min=-1,
        max=1,
        help="Least cosine of an image and its row in the index; below it counts as changed. Default: the "
        "index's calibrated threshold.",
    ),
]
ImageMaxPixels = Annotated[int, typer.Option("--max-pixels", min=1, help="Larger images are not taken.")]
