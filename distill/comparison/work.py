"""The work of one cell: the stages of its method, then the answers to the test images."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from distill.comparison.cells import Cell
from distill.comparison.costs import Cost, cost_of_run, read_seconds, wall_clock
from distill.comparison.recipe import FULL, LABELS_ONLY, TEACHER, Finetuning, Grid, Schedule
from distill.comparison.shared import Shared, storable_methods
from distill.loop.plan import Plan
from distill.loop.run_directory import CONFIG, REPORT, read_config
from distill.methods.transfer import TASK_AGNOSTIC, TASK_ORIENTED
from distill.stages.evaluate import EvaluateOptions, evaluate
from distill.stages.finetune import FinetuneOptions, finetune
from distill.stages.train import TrainOptions, train
from distill.task import BALANCED, CLASSIFICATION
from transferset.console import say
from transferset.errors import DataError

PREDICTIONS, TRANSFERRED = "test.parquet", "transferred.parquet"


class NotAvailable(Exception):
    """A cell that cannot be made here, such as one without its weights; the message says why."""


@dataclass(frozen=True)
class Work:
    """What a cell has given: `metrics` on test (of `distill evaluate`), those of the `transferred` student
    before finetuning, the score on `val` that chose, and what it cost."""

    metrics: dict[str, Any]
    costs: list[Cost]
    val: float | None = None
    transferred: dict[str, Any] | None = None
    set_images: int | None = None
    label_images: int = 0
    chosen: dict[str, Any] = field(default_factory=dict)


def do(shared: Shared, cell: Cell, folder: Path) -> Work:
    """All stages of a cell, in `folder`; each resumes. Raises what they raise, and NotAvailable."""
    if cell.method == TEACHER:
        return _teacher(shared, cell, folder)
    if cell.transfer_set is not None:
        return _transfer(shared, cell, folder)
    return _baseline(shared, cell, folder)


def _tested(shared: Shared, cell: Cell, model: Path, predictions: Path) -> dict[str, Any]:
    data = shared.draw(cell.labels, cell.seed).table
    found = evaluate(
        EvaluateOptions(model=model, data=data, predictions=predictions, execution=shared.execution)
    )
    return found.metrics


def _teacher(shared: Shared, cell: Cell, folder: Path) -> Work:
    assert cell.teacher is not None
    teacher, costs = shared.teacher(cell.teacher, cell.labels, cell.seed)
    metrics = _tested(shared, cell, teacher, folder / PREDICTIONS)
    return Work(metrics, costs, label_images=shared.draw(cell.labels, cell.seed).images)


def _transfer(shared: Shared, cell: Cell, folder: Path) -> Work:
    """Train on the transfer set, then finetune on the labels if the recipe says so."""
    assert cell.teacher is not None and cell.transfer_set is not None
    recipe, drawn = shared.recipe, shared.draw(cell.labels, cell.seed)
    opened = shared.transfer_set(cell)
    teacher, costs = shared.teacher(cell.teacher, cell.labels, cell.seed)
    store = None
    if _from_store(shared, cell, folder / "student", opened.images):
        store, stored = shared.store(cell, teacher)
        costs += stored
    clock = folder / "student.seconds.json"
    with wall_clock(clock, folder / "student" / REPORT):
        options = _train_options(shared, cell, folder / "student", teacher, store)
        taught = train(options)
    costs += cost_of_run("train", taught.costs, read_seconds(clock))
    metrics = _tested(shared, cell, folder / "student", folder / TRANSFERRED)
    chosen = {"step": taught.chosen_step, "from_store": store is not None}
    if recipe.finetuning is None:
        return Work(metrics, costs, taught.score, metrics, opened.images, drawn.images, chosen)
    clock = folder / "finetuned.seconds.json"
    with wall_clock(clock, folder / "finetuned" / REPORT):
        tuned = finetune(_finetune_options(shared, cell, recipe.finetuning, folder))
    costs += cost_of_run("finetune", tuned.costs, read_seconds(clock))
    final = _tested(shared, cell, folder / "finetuned", folder / PREDICTIONS)
    chosen["finetune_step"] = tuned.chosen_step
    return Work(final, costs, tuned.score, metrics, opened.images, drawn.images, chosen)


def _from_store(shared: Shared, cell: Cell, run: Path, images: int) -> bool:
    """Whether the student learns from stored outputs: what was begun goes on as it was begun."""
    if cell.method not in storable_methods(shared.recipe.schedule):
        return False
    if (run / CONFIG).exists():
        return "store_sha256" in read_config(run, "train").get("inputs", {})
    return shared.storing_pays(cell, images)


def _train_options(shared: Shared, cell: Cell, out: Path, teacher: Path, store: Path | None) -> TrainOptions:
    recipe = shared.recipe
    schedule = recipe.schedule
    return TrainOptions(
        shards=(shared.transfer_set(cell).path,),
        teacher=teacher,
        labels_from=store,
        student=recipe.student.spec,
        out=out,
        data=shared.draw(cell.labels, cell.seed).table,
        method=cell.method,
        feature_loss=schedule.feature_loss if cell.method == TASK_AGNOSTIC else None,
        feature_weight=(schedule.feature_weight or 0.0) if cell.method == TASK_ORIENTED else 0.0,
        temperature=schedule.temperature if cell.method == TASK_ORIENTED else None,
        image_size=recipe.student.image_size,
        plan=_plan(schedule),
        views=schedule.views,
        augment=schedule.augment,
        labelled_share=schedule.labelled_share,
        seed=cell.seed,
        runtime=recipe.runtime,
        metric=recipe.metric,
        execution=shared.execution,
    )


def _plan(given: Schedule | Finetuning) -> Plan:
    decay = given.weight_decay if isinstance(given, Schedule) else Plan.weight_decay
    return Plan(given.steps, given.epochs, given.batch_size, given.lr, decay)


def _finetune_options(shared: Shared, cell: Cell, given: Finetuning, folder: Path) -> FinetuneOptions:
    return FinetuneOptions(
        data=shared.draw(cell.labels, cell.seed).table,
        out=folder / "finetuned",
        from_run=folder / "student",
        plan=_plan(given),
        augment=given.augment,
        label_smoothing=given.label_smoothing,
        head_epochs=given.head_epochs,
        backbone_lr_scale=given.backbone_lr_scale,
        retention=given.retention,
        class_balanced=shared.recipe.metric == BALANCED,
        seed=cell.seed,
        execution=shared.execution,
    )


@dataclass(frozen=True)
class _Trial:
    steps: int
    augment: str
    lr: float

    @property
    def name(self) -> str:
        return f"{self.steps}-{self.augment}-{self.lr:g}"


def _baseline(shared: Shared, cell: Cell, folder: Path) -> Work:
    """A student on the labels alone, tuned on val; the weights it starts from are what differs."""
    recipe, drawn = shared.recipe, shared.draw(cell.labels, cell.seed)
    grid = recipe.labels_only if cell.method == LABELS_ONLY else recipe.pretrained
    spec = recipe.student.spec if cell.method == LABELS_ONLY else str(recipe.student.pretrained)
    if cell.method != LABELS_ONLY:
        _check_weights(shared, spec)
    scores: dict[_Trial, float] = {}
    costs: dict[_Trial, tuple[dict[str, Any], float]] = {}

    def best(trials: list[_Trial]) -> _Trial:
        for trial in (one for one in trials if one not in scores):
            clock = folder / f"{trial.name}.seconds.json"
            with wall_clock(clock, folder / trial.name / REPORT):
                report = finetune(_trial_options(shared, cell, spec, grid, trial, folder))
            scores[trial] = report.score or 0.0
            costs[trial] = report.costs, read_seconds(clock)
        return max(trials, key=lambda trial: scores[trial])

    _search(grid, best)
    chosen = max(scores, key=lambda trial: scores[trial])
    say(f"{cell.name}: best of {len(scores)} on val: {chosen.name}")
    metrics = _tested(shared, cell, folder / chosen.name, folder / PREDICTIONS)
    entries = [
        cost
        for trial, (run, seconds) in costs.items()
        for cost in cost_of_run("finetune", run, seconds, tuning=trial != chosen)
    ]
    tried = {trial.name: score for trial, score in scores.items()}
    return Work(
        metrics,
        entries,
        scores[chosen],
        label_images=drawn.images,
        chosen={**asdict(chosen), "tried": tried},
    )


def _search(grid: Grid, best: Any) -> None:
    """Try what the grid says; `best` tries a list and gives the best of it."""
    if grid.search == FULL:
        best([_Trial(s, a, lr) for s in grid.steps for a in grid.augments for lr in grid.lrs])
        return
    *short, longest = grid.steps
    augment = grid.augments[0]
    for steps in short or [longest]:
        augment = best([_Trial(steps, one, grid.lrs[0]) for one in grid.augments]).augment
    middle = short[-1] if short else longest
    lr = best([_Trial(middle, augment, one) for one in grid.lrs]).lr
    best([_Trial(longest, augment, lr)])


def _trial_options(
    shared: Shared, cell: Cell, spec: str, grid: Grid, trial: _Trial, folder: Path
) -> FinetuneOptions:
    return FinetuneOptions(
        data=shared.draw(cell.labels, cell.seed).table,
        out=folder / trial.name,
        student=spec,
        image_size=shared.recipe.student.image_size,
        plan=Plan(steps=trial.steps, batch_size=grid.batch_size, lr=trial.lr),
        augment=trial.augment,
        class_balanced=shared.recipe.metric == BALANCED,
        seed=cell.seed,
        execution=shared.execution,
    )


def _check_weights(shared: Shared, spec: str) -> None:
    """NotAvailable where the weights cannot be had here."""
    if spec in shared.lacking:
        raise NotAvailable(shared.lacking[spec])
    try:
        CLASSIFICATION.build_student(spec, shared.task.classes, shared.recipe.student.image_size, 0)
    except DataError as error:
        shared.lacking[spec] = error.message
        raise NotAvailable(error.message) from error
