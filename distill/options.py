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
    "none; or random crops of at least 65 % (light), 35 % (standard) or 20 % of the area, this with colours"
    " changed (strong), mirrored half of the time."
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
        help="Leave out training images that look like val or test images; exact copies go in any case.",
    ),
]
ImageRoot = Annotated[
    Path | None,
    typer.Option(help="Folder that the names in the lists or the table of --data are relative to."),
]
MixedIn = Annotated[
    Path | None,
    typer.Option(
        callback=there,
        help="Labelled images to mix in, in the forms of adapt --data; training selects on their val split.",
    ),
]
LabelledShare = Annotated[float, typer.Option(help="Share of --data among the images of an epoch.")]
Shards = Annotated[
    list[str], typer.Option(help="A transfer set, a folder of tars, a tar, or a glob; may be repeated.")
]
MoreShards = Annotated[list[str] | None, typer.Argument(hidden=True, metavar="SHARDS")]
Out = Annotated[
    Path,
    typer.Option(
        "--out", file_okay=False, help="The run's directory; running the same command again resumes."
    ),
]
MaxPixels = Annotated[int, typer.Option(min=1, help="Larger images are errors.")]
MaxErrorRate = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, help="A larger share of unreadable images is an error (3); default: if all are."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]

ImageSize = Annotated[
    int | None,
    typer.Option(min=1, help="Side of the student's input; default: the model's own, or that of --from."),
]

# How a student is trained.
Steps = Annotated[int | None, typer.Option(min=1, help="Length in steps, in place of --epochs.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images a step.")]
Accumulate = Annotated[
    int,
    typer.Option(min=1, help="Parts that a step is computed in, for less memory; batch norm sees one part."),
]
WeightDecay = Annotated[float, typer.Option(min=0, help="Weight decay; norms and biases have none.")]
Augment = Annotated[str, typer.Option(help=f"{AUGMENTATIONS} Default: standard.", show_default=False)]
HeadEpochs = Annotated[
    float, typer.Option(min=0, help="Passes that train the classifier alone first, on top of the others.")
]
BackboneLrScale = Annotated[
    float, typer.Option(help="Of --lr, for all but the classifier; above 0, at most 1.")
]
EvalEvery = Annotated[
    int | None,
    typer.Option(min=0, help="Steps between scores on val; 0: at the end only. Default: ten a run."),
]
CheckpointEvery = Annotated[
    int | None,
    typer.Option(
        min=0, help="Steps between checkpoints; 0: at the end only. Default: ten a run, 500 at most."
    ),
]
Patience = Annotated[
    int, typer.Option(min=0, help="Scores without improvement that end the run; 0: none do.")
]

# Where and how fast.
Seed = Annotated[
    int, typer.Option(min=0, max=2**31 - 1, help="Of what is drawn: random weights, order, views, folds.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")]
Runtime = Annotated[str, typer.Option(help="What the teacher runs on: auto, eager, compile, openvino.")]
Precision = Annotated[str, typer.Option(help="Of the teacher's arithmetic: auto, fp32, bf16, fp16.")]
StudentPrecision = Annotated[
    str,
    typer.Option(help="Of the student's steps: fp32, bf16, fp16; auto: what a probe before long runs finds."),
]
CompileStudent = Annotated[
    str, typer.Option("--compile", help="torch.compile of the student: on, off; auto: where it pays.")
]
ModelBatchSize = Annotated[int, typer.Option(min=1, help="Images that the model sees at once.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Threads of the model on a CPU; default: all cores.")
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0, help="Threads that decode and render ahead; 0: none. Default: half of the cores, 8 at most."
    ),
]
CacheMb = Annotated[int, typer.Option(min=0, help="Memory for decoded images, MB.")]

# What a teacher is asked, and what is stored of it.
TeacherFlip = Annotated[
    bool,
    typer.Option("--teacher-flip", help="The teacher's mean answer for a view and its mirror image counts."),
]
TopK = Annotated[
    int | None,
    typer.Option(min=1, help="Classes kept beside the rest as one; default: all up to 256, else 64."),
]
StoredFeatures = Annotated[
    bool,
    typer.Option("--features", help="Keep features too, for train --feature-weight and task-agnostic."),
]
