"""The options of `curate`'s commands, as typer reads them: each once, whichever commands have it."""

from pathlib import Path
from typing import Annotated

import typer

MAX_PIXELS = 100_000_000  # of transferset.images, which is slow to import

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
    Path, typer.Option("--index", help="Index directory: a new one, or one to resume or extend.")
]
Index = Annotated[Path, typer.Option("--index", help="Index directory.")]
PoolRoots = Annotated[
    list[str] | None,
    typer.Option("--pool-root", help="OLD=NEW: new location of a pool that was moved. May be repeated."),
]
LabelledDir = Annotated[
    Path,
    typer.Option(
        "--query-dir",
        help="Labelled images: DIR/<class>/*.jpg, a flat folder, a table image,label, or a list path,label.",
    ),
]
QueryDir = Annotated[
    Path | None,
    typer.Option(
        help="Labelled images: DIR/<class>/*.jpg, a flat folder, a table image,label, or a list path,label.",
        show_default=False,
    ),
]
ImageRoot = Annotated[
    Path | None,
    typer.Option(help="Folder that names in the list or table of --query-dir are relative to."),
]
ExcludeDirs = Annotated[
    list[Path] | None,
    typer.Option(
        "--exclude-dir",
        help="Folder (or list, as for --query-dir) whose images must not be retrieved, such as val or"
        " test. May be "
        "repeated.",
    ),
]
NoNear = Annotated[
    bool,
    typer.Option(
        "--no-near",
        help="Check only for identical bytes or pixels, not for near copies or near-duplicates.",
    ),
]
Out = Annotated[Path, typer.Option(help="Transfer set directory: a new one, or one to resume.")]
ShardSize = Annotated[int, typer.Option(min=1, help="Samples per shard.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]

# What counts as an image.
PoolMaxPixels = Annotated[
    int | None,
    typer.Option("--max-pixels", min=1, help="Treat larger images as errors. Default: 100 million."),
]
QueryMaxPixels = Annotated[
    int, typer.Option("--max-pixels", min=1, help="Treat larger query images as unreadable.")
]
PoolErrorRate = Annotated[
    float | None,
    typer.Option(
        "--max-error-rate",
        min=0,
        max=1,
        help="Exit with code 3 if a larger share of the images is unreadable.",
    ),
]
QueryErrorRate = Annotated[
    float | None,
    typer.Option(
        "--max-error-rate",
        min=0,
        max=1,
        help="Exit with code 3 if a larger share of the query images is unreadable.",
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
    int | None,
    typer.Option(min=1, help="Side length of the encoder's input in pixels. Default: the model's own."),
]
Runtime = Annotated[
    str | None, typer.Option(help="Runtime of the encoder: auto, eager, compile or openvino.")
]
Precision = Annotated[str | None, typer.Option(help="Precision of the encoder: auto, fp32, bf16 or fp16.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Images per batch of the encoder. Default: 64.")]
WeightsSeed = Annotated[
    int | None,
    typer.Option("--seed", min=0, max=2**31 - 1, help="Seed of an encoder with random weights. Default: 0."),
]

# The search.
MemoryGb = Annotated[
    float | None,
    typer.Option(
        "--memory-gb", help="Memory in GB that the FAISS file may take. Default: half of the machine's."
    ),
]
Recall = Annotated[
    float | None,
    typer.Option(help="Share of the 100 nearest neighbours that the FAISS file must find. Default: 0.95."),
]
Engine = Annotated[
    str, typer.Option(help="Search engine: auto, exact (scans all rows) or faiss (approximate).")
]

# What is retrieved.
Total = Annotated[
    int | None,
    typer.Option(min=1, help="Total number of images to retrieve, spread evenly over the queries."),
]
PerQuery = Annotated[int | None, typer.Option(min=1, help="Images to retrieve per query.")]
Strategy = Annotated[
    str,
    typer.Option(
        help="query-balanced; class-balanced; text (class names); text-image (names, then images); diverse; "
        "cluster (for few queries); best-match or random (for comparison)."
    ),
]
IncludeQueries = Annotated[
    bool,
    typer.Option("--include-queries", help="Write the queries to the set too; they count towards --total."),
]
MinSimilarity = Annotated[
    float | None, typer.Option(min=-1, max=1, help="Minimum cosine similarity. Default: none.")
]
Shortfall = Annotated[
    str, typer.Option(help="What to do when a quota can't be filled: report, topup or fail.")
]
DrawSeed = Annotated[
    int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed for sampling and shuffling.")
]

# What is suggested.
SuggestionsOut = Annotated[
    Path, typer.Option("--out", help="Directory for the suggestions: a new one, or one to resume.")
]
Count = Annotated[int, typer.Option(min=1, max=1000, help="Images to suggest.")]

# How single strategies work.
Crops = Annotated[
    bool,
    typer.Option("--crops", help="Also search with five crops of each query image, for small objects."),
]
ClassBlend = Annotated[
    float, typer.Option(min=0, max=1, help="How far queries are shifted towards the mean of their class.")
]
Diversity = Annotated[
    float,
    typer.Option(
        min=0, max=1, help="For --strategy diverse: 0 prefers the most similar images, 1 the most different."
    ),
]
TextDepth = Annotated[
    int,
    typer.Option(
        min=1, help="For --strategy text-image: candidates found by name, per image that a class may take."
    ),
]
ClassNames = Annotated[
    str | None,
    typer.Option(
        help="For the text strategies: a file with one name per line, or a,b,c; LABEL=NAME sets the name"
        " of a label."
    ),
]
Templates = Annotated[
    Path | None,
    typer.Option(help="For the text strategies: a file with one sentence per line, {} for the class name."),
]

# What may be retrieved at all.
MinSide = Annotated[int | None, typer.Option(min=1, help="Minimum length of the shorter side, in pixels.")]
MaxAspect = Annotated[
    float | None, typer.Option(min=1, help="Maximum ratio of the longer to the shorter side.")
]
CaptionContains = Annotated[
    list[str] | None,
    typer.Option(help="Text that the caption must contain (case-insensitive). May be repeated."),
]
CaptionMatches = Annotated[
    str | None,
    typer.Option(help="Regular expression (RE2) that the caption must match somewhere (case-insensitive)."),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        help='Condition on metadata, "NAME OP VALUE", with ==, !=, <, <=, >, >=, ~ (contains) or in '
        "(one of a,b,c). May be repeated; all must hold."
    ),
]

# Where and how fast.
Device = Annotated[str, typer.Option(help="Device: auto, cpu, cuda, …")]
Devices = Annotated[
    str,
    typer.Option(
        "--device", help="Device: auto, cpu, cuda, …; or several, cuda:0,cuda:1, with one process each."
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Write nothing; estimate rows, disk, memory, time and the FAISS index."),
]
Threads = Annotated[
    int | None, typer.Option(min=1, help="CPU threads of the encoder. Default: one per core.")
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Threads that read and decode. Default: one per core.")
]

# Refining with a teacher's answers.
TeacherTable = Annotated[
    Path,
    typer.Option(help="Table (.parquet) that distill label --table wrote for the transfer set in --from."),
]
FromSet = Annotated[Path, typer.Option("--from", help="Directory of the transfer set to refine.")]
RefinedTotal = Annotated[int, typer.Option(min=1, help="Total number of images to retrieve.")]
DropShare = Annotated[
    float | None,
    typer.Option(
        "--drop", help="Share of the images to drop, least on task first. Default: decided by --off-task."
    ),
]
OffTask = Annotated[
    float | None,
    typer.Option(
        help="Drop images that look less on task than this share of random ones; use a lower value if much of"
        " the pool belongs to the task. Default: 0.5."
    ),
]
MostQuota = Annotated[
    float, typer.Option("--most", help="Largest quota of a class, as a multiple of an even share.")
]
UncertainShare = Annotated[
    float, typer.Option(help="Share of --total for neighbours of images that the teacher is uncertain about.")
]
UncertainQueries = Annotated[
    int | None, typer.Option(min=0, help="Number of such images. Default: at most as many as queries.")
]

# Fetching of URLs.
TransferSet = Annotated[
    Path, typer.Option(help="Directory of a transfer set retrieved from an index over URLs.")
]
AllowPrivateHosts = Annotated[
    bool,
    typer.Option(
        "--allow-private-hosts",
        help="Also connect to private, loopback, link-local, multicast and metadata-service addresses.",
    ),
]
Timeout = Annotated[float, typer.Option(help="Seconds without a response before a connection is abandoned.")]
MaxSeconds = Annotated[float, typer.Option(help="Total seconds allowed for one image.")]
MaxBytes = Annotated[int, typer.Option(min=1, help="Skip images of more bytes than this.")]
Retries = Annotated[int, typer.Option(min=0, help="Retries after a temporary failure.")]
RetryFailed = Annotated[
    bool,
    typer.Option("--retry-failed", help="In a complete set, retry the downloads that failed temporarily."),
]
Processes = Annotated[int, typer.Option(min=1, help="Number of download processes.")]
DownloadThreads = Annotated[int, typer.Option("--threads", min=1, help="Concurrent downloads per process.")]
PerHost = Annotated[int, typer.Option(min=1, help="Concurrent downloads per host.")]
UserAgentToken = Annotated[
    str, typer.Option(help="Name sent in requests; opt-out headers of hosts may refer to it.")
]
MinAgreement = Annotated[
    float | None,
    typer.Option(
        min=-1,
        max=1,
        help="Minimum cosine between an image and its row in the index; below it, the image counts as "
        "changed. Default: the index's calibrated threshold.",
    ),
]
ImageMaxPixels = Annotated[int, typer.Option("--max-pixels", min=1, help="Skip images of more pixels.")]
