"""Options that several commands of `distill` have; those of one command stand with it."""

from pathlib import Path
from typing import Annotated

import typer


def there(given: Path | None) -> Path | None:
    """BadParameter for labelled images that are not; words such as train=LIST are left to who reads them."""
    if given is not None and "=" not in str(given) and not given.exists():
        raise typer.BadParameter(f"{given} does not exist")
    return given


AUGMENTATIONS = (
    "Augmentation: none; or random crops of at least 65 % (light), 35 % (standard) or 20 % of the area with"
    " colour changes (strong), mirrored half of the time."
)
MAX_PIXELS = 100_000_000  # of transferset.images, which is slow to import

# What goes in and out.
Labelled = Annotated[
    Path,
    typer.Option(
        callback=there,
        help="Labelled images: class folders, split folders, a table image,label[,split], a list path,label"
        " (.txt), a folder with train.txt, val.txt, test.txt, or train=LIST,val=LIST,test=LIST.",
    ),
]
DropNearCopies = Annotated[
    bool,
    typer.Option(
        "--drop-near-copies",
        help="Leave out training images that look like val or test images; exact copies are always left out.",
    ),
]
ImageRoot = Annotated[
    Path | None,
    typer.Option(help="Folder that names in the lists or table of --data are relative to."),
]
MixedIn = Annotated[
    Path | None,
    typer.Option(
        callback=there,
        help="Labelled images to mix in, in any form that adapt --data takes; their val split selects the"
        " checkpoint.",
    ),
]
LabelledShare = Annotated[float, typer.Option(help="Share of --data in the images of an epoch.")]
Shards = Annotated[
    list[str], typer.Option(help="A transfer set, a folder of tars, a tar, or a glob. May be repeated.")
]
MoreShards = Annotated[list[str] | None, typer.Argument(hidden=True, metavar="SHARDS")]
Out = Annotated[
    Path,
    typer.Option("--out", file_okay=False, help="Run directory; running the same command again resumes."),
]
MaxPixels = Annotated[int, typer.Option(min=1, help="Treat larger images as errors.")]
MaxErrorRate = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Exit with code 3 if a larger share of images is unreadable; default: only if all are.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]

ImageSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Side length of the student's input in pixels; default: the model's own, or that of --from.",
    ),
]

# How a student is trained.
Steps = Annotated[int | None, typer.Option(min=1, help="Training length in steps, instead of --epochs.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images per step.")]
Accumulate = Annotated[
    int,
    typer.Option(
        min=1, help="Parts into which a step is split to save memory; batch norm sees one part at a time."
    ),
]
WeightDecay = Annotated[float, typer.Option(min=0, help="Weight decay; norms and biases have none.")]
Augment = Annotated[str, typer.Option(help=f"{AUGMENTATIONS} Default: standard.", show_default=False)]
HeadEpochs = Annotated[
    float, typer.Option(min=0, help="Epochs that train only the classifier first, in addition to the others.")
]
BackboneLrScale = Annotated[
    float, typer.Option(help="Factor on --lr for all parameters but the classifier; above 0, at most 1.")
]
EvalEvery = Annotated[
    int | None,
    typer.Option(min=0, help="Steps between evaluations on val; 0: at the end only. Default: ten per run."),
]
CheckpointEvery = Annotated[
    int | None,
    typer.Option(
        min=0, help="Steps between checkpoints; 0: at the end only. Default: ten per run, at most 500 steps."
    ),
]
Patience = Annotated[
    int, typer.Option(min=0, help="End the run after this many evaluations without improvement; 0: never.")
]

# Where and how fast.
Seed = Annotated[
    int, typer.Option(min=0, max=2**31 - 1, help="Seed for everything random: weights, order, views, folds.")
]
Device = Annotated[str, typer.Option(help="Device: auto, cpu, cuda, cuda:1, …")]
Runtime = Annotated[str, typer.Option(help="Runtime of the teacher: auto, eager, compile, openvino.")]
Precision = Annotated[str, typer.Option(help="Precision of the teacher: auto, fp32, bf16, fp16.")]
StudentPrecision = Annotated[
    str,
    typer.Option(
        help="Precision of the student's steps: fp32, bf16, fp16; auto: as found by a probe before long runs."
    ),
]
CompileStudent = Annotated[
    str, typer.Option("--compile", help="torch.compile for the student: on, off; auto: where it pays off.")
]
ModelBatchSize = Annotated[int, typer.Option(min=1, help="Images per batch of the model.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads of the model; default: all cores.")]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0, help="Threads that decode and render ahead; 0: none. Default: half of the cores, at most 8."
    ),
]
CacheMb = Annotated[int, typer.Option(min=0, help="Memory for decoded images, in MB.")]

# What a teacher is asked, and what is stored of it.
TeacherFlip = Annotated[
    bool,
    typer.Option("--teacher-flip", help="Average the teacher's outputs over each view and its mirror image."),
]
TopK = Annotated[
    int | None,
    typer.Option(min=1, help="Classes kept per view, with the rest as one; default: all up to 256, else 64."),
]
StoredFeatures = Annotated[
    bool,
    typer.Option(
        "--features", help="Store features too, for train --feature-weight and --method task-agnostic."
    ),
]
