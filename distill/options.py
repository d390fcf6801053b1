"""The options of `distill`'s commands, as typer reads them: each once, whichever commands have it."""

from pathlib import Path
from typing import Annotated

import typer


def _there(given: Path | None) -> Path | None:
    """Labelled images are there; words such as train=LIST are left to who reads them."""
    if given is not None and "=" not in str(given) and not given.exists():
        raise typer.BadParameter(f"{given} does not exist")
    return given


# What goes in and out.
Labelled = Annotated[
    Path,
    typer.Option(
        callback=_there,
        help="Labelled images: class folders, split folders, a table image,label[,split], a list path,label"
        " (.txt), a folder with train.txt, val.txt, test.txt, or train=LIST,val=LIST,test=LIST.",
    ),
]
MixedIn = Annotated[
    Path | None,
    typer.Option(callback=_there, help="Labelled images to mix in; val selects."),
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
TeacherOut = Annotated[
    Path,
    typer.Option("--out", file_okay=False, help="The teacher's directory; the same command again resumes."),
]
Split = Annotated[str, typer.Option(help="train, val or test of --data; all: every image.")]
Predictions = Annotated[
    Path | None,
    typer.Option(dir_okay=False, help="Write label, answer and probabilities of each image (.parquet)."),
]
MaxPixels = Annotated[int, typer.Option(min=1, help="Larger images are errors.")]
MaxErrorRate = Annotated[
    float | None, typer.Option(min=0, max=1, help="A larger share of unreadable images is an error (3).")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]

# Models.
TeacherSpec = Annotated[
    str, typer.Option(help="embedded, open_clip:MODEL/PRETRAINED, timm:NAME, … the model to adapt.")
]
Teacher = Annotated[Path, typer.Option(help="The directory that distill adapt wrote.")]
LabellingTeacher = Annotated[
    list[Path], typer.Option("--teacher", help="The directory that distill adapt wrote.")
]
TeacherImageSize = Annotated[
    int | None, typer.Option(min=1, help="Side of the teacher's input; default: the model's own.")
]
StudentSpec = Annotated[
    str, typer.Option(help="timm:NAME@none, timm:NAME, timm:NAME@FILE.safetensors or embedded.")
]
TrainTeacher = Annotated[
    list[Path] | None,
    typer.Option(help="The directory that distill adapt wrote; or give --labels-from. May be repeated."),
]
LabelsFrom = Annotated[
    list[Path] | None,
    typer.Option(help="A store of distill label: no teacher is needed, or run. May be repeated."),
]
StudentSpecs = Annotated[
    list[str] | None,
    typer.Option(
        "--student",
        help="timm:NAME@none, timm:NAME, timm:NAME@FILE.safetensors or embedded. Several of them learn in one"
        " pass, each in a folder of its own below --out.",
    ),
]
FromRun = Annotated[Path | None, typer.Option("--from", help="A run of distill train or finetune.")]
BaselineSpec = Annotated[
    str | None, typer.Option(help="Labels only: the student to start from, as in train.")
]
ImageSize = Annotated[
    int | None, typer.Option(min=1, help="Side of the student's input; default: the model's own.")
]
Model = Annotated[
    Path, typer.Option(help="A teacher, a run of train or finetune, an export, or an ONNX file in an export.")
]

Models = Annotated[
    list[Path],
    typer.Option(
        "--model",
        help="A teacher, a run of train or finetune, an export, or an ONNX file in an export; repeated: runs"
        " (seeds) of one recipe, with mean and spread.",
    ),
]
Against = Annotated[
    list[Path] | None,
    typer.Option(help="Runs of another recipe: the paired difference on the same images; may be repeated."),
]

# Several teachers, several heads.
LabelWeight = Annotated[
    float,
    typer.Option(min=0, help="Of the labels of --data, which a second head learns; 0: they teach nothing."),
]
Combine = Annotated[
    str,
    typer.Option(help="Several teachers: average of their probabilities, or heads, one for each."),
]
TeacherWeights = Annotated[
    list[float] | None,
    typer.Option("--teacher-weight", help="What a teacher counts, once for each; default: the same."),
]
TeacherFlip = Annotated[
    bool,
    typer.Option("--teacher-flip", help="The teacher's mean answer for a view and its mirror image counts."),
]
ContinuedRun = Annotated[
    Path | None,
    typer.Option("--from", help="A run to go on from in place of --student, with other or more teachers."),
]

# How a head is found.
Flip = Annotated[bool, typer.Option(help="The head also learns from mirrored images.")]
ClassWeight = Annotated[
    str, typer.Option(help="none, or balanced: every class counts the same, also the rare ones.")
]
HeadFolds = Annotated[int, typer.Option(min=2, help="Of the cross-validation, where val does not decide.")]

HeadInit = Annotated[
    str,
    typer.Option(
        help="What the head starts from: probe (labels), text (class names too, with a text tower), or auto."
    ),
]
ClassNames = Annotated[
    str | None,
    typer.Option(help="A file, a name a line, or a,b,c; LABEL=NAME says what to call a label in sentences."),
]
Templates = Annotated[Path | None, typer.Option(help="A file with a sentence a line, {} for the class name.")]

# How a teacher is finetuned.
Tune = Annotated[
    str,
    typer.Option(
        help="head: the backbone stays frozen; lp-ft: head first, then everything; full: everything at once;"
        " partial: head first, then the last blocks."
    ),
]
TunedBlocks = Annotated[
    int, typer.Option(min=1, help="Of --tune partial: blocks, or stages of a convnet, that learn.")
]
TuningEpochs = Annotated[float | None, typer.Option(help="Length in passes over the images; default: 20.")]
TuningLr = Annotated[
    float | None, typer.Option("--lr", help="Peak learning rate of the head; default: 2e-4.")
]
LayerDecay = Annotated[
    float, typer.Option(help="Each layer's learning rate, as a share of that of the layer behind it.")
]
TuningBatchSize = Annotated[int, typer.Option(min=1, help="Images a step of finetuning.")]
TeacherRetention = Annotated[
    float, typer.Option(min=0, help="Weight of staying with what the frozen teacher says; 0: none.")
]
TuningEvalEvery = Annotated[
    int | None, typer.Option(min=1, help="Steps between the candidates that are judged; default: ten a run.")
]

# How a student is trained.
Method = Annotated[
    str, typer.Option(help="task-oriented, pseudo-labels, or task-agnostic: match the teacher's features.")
]
FeatureLoss = Annotated[
    str | None,
    typer.Option(help="Of task-agnostic: cosine, smooth-l1, contrastive or patches; default: cosine."),
]
FeatureWeight = Annotated[
    float,
    typer.Option(min=0, help="Of the teacher's features, matched beside its class probabilities; 0: not."),
]
Steps = Annotated[int | None, typer.Option(min=1, help="Length in steps.")]
Epochs = Annotated[float | None, typer.Option(help="Length in passes over the images.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images a step.")]
Accumulate = Annotated[
    int,
    typer.Option(min=1, help="Parts that a step is computed in, for less memory; batch norm sees one part."),
]
Lr = Annotated[float | None, typer.Option("--lr", help="Peak learning rate of AdamW.")]
WeightDecay = Annotated[float, typer.Option(min=0, help="Weight decay; norms and biases have none.")]
Views = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Views of each image before they repeat, seen by the teacher once; 0: no repeats."
        " Default: 8, or the store's.",
    ),
]
TrainAugment = Annotated[
    str | None, typer.Option(help="none, light, standard or strong; default: standard, or the store's.")
]
Augment = Annotated[str, typer.Option(help="none, light, standard or strong.")]
Temperature = Annotated[
    float | None,
    typer.Option(help="Softens both sides of the comparison; default: 1, contrastive 0.07."),
]
LabelSmoothing = Annotated[float, typer.Option(help="Share of the target spread over all classes.")]
Folds = Annotated[
    int, typer.Option(min=0, help="Cross-validation where there is no val split, two or more; 0: none.")
]
HeadEpochs = Annotated[
    float, typer.Option(min=0, help="Passes that train the classifier alone first, on top of the others.")
]
BackboneLrScale = Annotated[
    float, typer.Option(help="Of --lr, for all but the classifier; above 0, at most 1.")
]
Retention = Annotated[
    float, typer.Option(min=0, help="Weight of staying with what the student of --from says; 0: none.")
]
ClassBalanced = Annotated[
    bool, typer.Option("--class-balanced", help="Every class counts the same, in the loss and the score.")
]
EvalEvery = Annotated[
    int | None, typer.Option(min=0, help="Steps between scores on val; default: ten a run.")
]
CheckpointEvery = Annotated[
    int | None, typer.Option(min=0, help="Steps between checkpoints; default: ten a run, at most 500.")
]
Patience = Annotated[
    int, typer.Option(min=0, help="Scores without improvement that end the run; 0: none do.")
]

# A step once more.
ReplayPath = Annotated[
    Path,
    typer.Argument(exists=True, help="A run, or one of the files in its folder replay."),
]

# Where and how fast.
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1)]
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
Workers = Annotated[int | None, typer.Option(min=0, help="Threads that decode and render ahead; 0: none.")]
CacheMb = Annotated[int, typer.Option(min=0, help="Memory for decoded images, MB.")]

# Checks of labelled splits.
CheckReport = Annotated[
    Path | None, typer.Option("--out", dir_okay=False, help="Write a page that shows what was found (.html).")
]

# Exports.
Run = Annotated[Path, typer.Option("--model", help="A finished run of distill train or finetune.")]
ExportOut = Annotated[
    Path, typer.Option("--out", help="A new directory; nothing is left in it if the export fails.")
]
CompareOn = Annotated[
    Path | None,
    typer.Option("--data", help="Real images to compare on: class or split folders, a table, or a folder."),
]
CompareSplit = Annotated[
    str | None,
    typer.Option(help="train, val, test or all of --data; default: test, else val, else all."),
]
Onnx = Annotated[bool, typer.Option("--onnx", help="Write an ONNX graph (any number of images).")]
Int8 = Annotated[bool, typer.Option("--int8", help="Write an 8-bit ONNX graph too; needs labels in --data.")]
WithPreprocessing = Annotated[
    bool,
    typer.Option(
        "--with-preprocessing", help="The graphs take resized, cropped uint8 images, and normalise them."
    ),
]
Tolerance = Annotated[float, typer.Option(min=0, help="Largest difference of a logit to the run's.")]
MaxDrop = Annotated[float, typer.Option(min=0, max=1, help="Accuracy that --int8 may lose; 0.02: 2 points.")]
CalibrationImages = Annotated[int, typer.Option(min=1, help="Training images of --data that calibrate int8.")]

# Predictions.
Images = Annotated[
    list[str], typer.Option(help="A folder, a tar, an image, a glob, or - for paths on stdin; repeatable.")
]
MoreImages = Annotated[list[str] | None, typer.Argument(hidden=True, metavar="IMAGES")]
Table = Annotated[Path | None, typer.Option(help="Write one row an image: .parquet, or .csv.")]
PredictionsAsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object: every prediction, then the summary.")
]
RejectFrom = Annotated[
    list[str] | None,
    typer.Option(help="Random images (a pool) to fit the rejection threshold with; an export keeps it."),
]
RejectQuantile = Annotated[
    float, typer.Option(min=0, max=1, help="Share of those images that the threshold rejects.")
]
RejectImages = Annotated[int, typer.Option(min=1, help="How many of those images are drawn.")]
Reject = Annotated[bool, typer.Option(help="Use the threshold that the export holds.")]

# Choosing a student.
MaxMs = Annotated[float | None, typer.Option(min=0, help="Latency of one image, measured here.")]
MaxMb = Annotated[float | None, typer.Option(min=0, help="Size of the weights in float32, MB.")]
Classes = Annotated[int, typer.Option(min=1, help="Of the task: they size the classifier.")]
Match = Annotated[
    list[str] | None, typer.Option(help="Glob of timm names instead of the shortlist; repeatable.")
]

# Stored teacher outputs.
Store = Annotated[
    Path, typer.Option("--out", file_okay=False, help="The store; running the same command again resumes.")
]
StoredViews = Annotated[int, typer.Option(min=1, help="Views of every image that the teacher looks at.")]
StoredData = Annotated[
    Path | None,
    typer.Option("--data", callback=_there, help="Labelled images that train is to mix in: as there."),
]
DecodeSize = Annotated[
    int | None,
    typer.Option(min=1, help="Short side that JPEGs may be reduced to; default: the teacher's input."),
]
TopK = Annotated[
    int | None,
    typer.Option(min=1, help="Classes kept beside the rest as one; default: all up to 256, else 64."),
]
StoredFeatures = Annotated[
    bool,
    typer.Option("--features", help="Keep features too, for train --feature-weight and task-agnostic."),
]
LabelTable = Annotated[
    Path | None,
    typer.Option(dir_okay=False, help="Write one row an image: probabilities, entropy (.parquet)."),
]
PlannedViews = Annotated[int, typer.Option(min=0, help="Views of each image, as in train; 0: no repeats.")]
ProbeSeconds = Annotated[float, typer.Option(help="How long each stage is measured.")]

# The comparison.
CompareRecipe = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The recipe (YAML).")]
CompareOut = Annotated[
    Path | None,
    typer.Option(
        "--out", file_okay=False, help="Where everything is written; default: the recipe without .yaml."
    ),
]
Only = Annotated[str | None, typer.Option(help="Run only cells whose name matches, such as 'task-*'.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List the cells with what they will cost.")]
ReportOnly = Annotated[bool, typer.Option("--report-only", help="Train nothing: report what is there.")]
