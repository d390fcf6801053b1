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
    typer.Option(help="Folder that the names in the list or the table of --query-dir are relative to."),
]
ExcludeDirs = Annotated[
    list[Path] | None,
    typer.Option(
        "--exclude-dir",
        help="Folder (or list, as in --query-dir) whose images must not be retrieved: val, test; repeatable.",
    ),
]
NoNear = Annotated[
    bool,
    typer.Option(
        "--no-near",
        help="Look only for the same bytes and the same pixels, not for near copies or near-duplicates.",
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
Runtime = Annotated[str | None, typer.Option(help="auto, eager, compile or openvino.")]
Precision = Annotated[str | None, typer.Option(help="Of the encoder's arithmetic: auto, fp32, bf16 or fp16.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Images a run of the encoder. Default: 64.")]
WeightsSeed = Annotated[
    int | None,
    typer.Option("--seed", min=0, max=2**31 - 1, help="Of an encoder with random weights. Default: 0."),
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
Strategy = Annotated[
    str,
    typer.Option(
        help="query-balanced; class-balanced; text (class names); text-image (names, then images); diverse; "
        "cluster (few queries); best-match or random (for comparison)."
    ),
]
IncludeQueries = Annotated[
    bool, typer.Option("--include-queries", help="Write the queries too; --total counts them.")
]
MinSimilarity = Annotated[
    float | None, typer.Option(min=-1, max=1, help="Least cosine similarity. Default: no floor.")
]
Shortfall = Annotated[
    str, typer.Option(help="What to do about a quota that can't be filled: report, topup or fail.")
]
DrawSeed = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Of what is drawn or shuffled.")]

# What is suggested.
SuggestionsOut = Annotated[
    Path, typer.Option("--out", help="Folder of the suggestions; new, or one to resume.")
]
Count = Annotated[int, typer.Option(min=1, max=1000, help="Images to suggest.")]

# How single strategies work.
Crops = Annotated[
    bool,
    typer.Option("--crops", help="Search by five crops of each query image too: for what is small in it."),
]
ClassBlend = Annotated[
    float, typer.Option(min=0, max=1, help="How far queries are drawn towards their class's mean.")
]
Diversity = Annotated[
    float,
    typer.Option(min=0, max=1, help="Of --strategy diverse: 0 is most similar first, 1 least alike first."),
]
TextDepth = Annotated[
    int,
    typer.Option(
        min=1, help="Of --strategy text-image: candidates by name, for each image a class may take."
    ),
]
ClassNames = Annotated[
    str | None,
    typer.Option(
        help="Of the text strategies: a file, a name a line, or a,b,c; LABEL=NAME says what to call a label."
    ),
]
Templates = Annotated[
    Path | None,
    typer.Option(help="For the text strategies: a file with a sentence a line, {} for the class name."),
]

# What may be retrieved at all.
MinSide = Annotated[int | None, typer.Option(min=1, help="Least length of the shorter side, pixels.")]
MaxAspect = Annotated[
    float | None, typer.Option(min=1, help="Largest ratio of the longer to the shorter side.")
]
CaptionContains = Annotated[
    list[str] | None, typer.Option(help="Text that the caption must contain, in any case. May be repeated.")
]
CaptionMatches = Annotated[
    str | None, typer.Option(help="Regular expression (RE2) that must match in the caption, in any case.")
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        help='Condition on metadata, "NAME OP VALUE", with ==, !=, <, <=, >, >=, ~ (contains) or in '
        "(one of a,b,c). May be repeated: all must hold."
    ),
]

# Where and how fast.
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, …")]
Devices = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda, … or several, cuda:0,cuda:1: a process on each.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Write nothing; tell rows, disk, memory, time and FAISS index.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads of the encoder. Default: cores.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Threads that read and decode. Default: cores.")]

# Refining with a teacher's answers.
TeacherTable = Annotated[
    Path, typer.Option(help="What distill label --table wrote of the transfer set in --from (.parquet).")
]
FromSet = Annotated[Path, typer.Option("--from", help="Folder of the transfer set that is refined.")]
RefinedTotal = Annotated[int, typer.Option(min=1, help="Images to retrieve in all.")]
DropShare = Annotated[
    float | None,
    typer.Option("--drop", help="Share of the images that leaves, least on task first. Default: --off-task."),
]
OffTask = Annotated[
    float | None,
    typer.Option(
        help="Images leave that look less on task than this share of random ones; less where much of the pool"
        " is of the task. Default: 0.5."
    ),
]
MostQuota = Annotated[float, typer.Option("--most", help="Largest quota of a class, in even ones.")]
UncertainShare = Annotated[
    float, typer.Option(help="Share of --total for neighbours of images that the teacher hesitates on.")
]
UncertainQueries = Annotated[
    int | None, typer.Option(min=0, help="How many such images. Default: as many as queries, at most.")
]

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
