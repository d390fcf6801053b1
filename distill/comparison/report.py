"""`report.html` and its plots: the table, what follows from it, what it cost, and where models err."""

from collections.abc import Sequence

from distill.comparison import plots
from distill.comparison.answers import Row, reference, without_common_seed
from distill.comparison.comparison import Comparison, mean_cost
from distill.comparison.curves import Answer, answers, label_curves, set_curves
from distill.comparison.disagreement import Disagreement, disagreements
from distill.comparison.ledger import ledger_lines
from distill.comparison.recipe import LABELS_ONLY, TEACHER, budget
from distill.comparison.runner import DONE
from distill.comparison.summary import summary
from distill.comparison.tables import compared_line
from distill.statistics import Difference
from transferset.report import figure, page, plot, table, text
from transferset.writes import write_bytes

HTML, PLOTS = "report.html", "plots"
_SHOWN_ROWS = 6
_UNFOLDED = 30


def write_report(comparison: Comparison) -> None:
    """Write `report.html` and `plots/*.png` into the comparison's directory."""
    pictures = _plots(comparison)
    for name, (png, _) in pictures.items():
        write_bytes(comparison.out / PLOTS / f"{name}.png", png)
    body = "\n".join(
        [
            _head(comparison),
            _table(comparison),
            _pictures(pictures, ("cost",)),
            _answers(answers(comparison.rows, comparison.recipe)),
            _pictures(pictures, ("labels", "sets")),
            _differences(comparison),
            _costs(comparison),
            _classes(comparison, pictures),
            _disagreements(comparison),
            _missing(comparison),
        ]
    )
    write_bytes(comparison.out / HTML, page("Comparison", body).encode())


def _head(comparison: Comparison) -> str:
    return "".join(f"<p>{text(sentence)}</p>" for sentence in summary(comparison))


def _table(comparison: Comparison) -> str:
    rows = []
    for row in comparison.rows:
        spread, cost = row.spread, mean_cost(row)
        size = "" if row.set_images is None else f"{row.set_images:,.0f}"
        before = _before_finetuning(row)
        cells = [row.name, budget(row.labels), size]
        cells += [spread.percent.replace(" ", "\N{NO-BREAK SPACE}"), before, str(spread.runs)]
        cells += [f"{cost.flops:.1e}", f"{cost.seconds:,.0f}"]
        rows.append([text(cell) for cell in cells])
    metric = plots.metric_name(comparison.recipe.metric)
    note = (
        "Every student in its final state, finetuned on the labels if the recipe says so; ± is the standard "
        "deviation over seeds. FLOPs and seconds are those of one cell (mean over seeds), its teacher and "
        "everything else it shares included in full."
    )
    columns = ["row", "labels", "images of the set", f"test {metric}, %", "before finetuning"]
    columns += ["seeds", "FLOPs", "seconds"]
    return f"<h2>The table</h2><p>{text(note)}</p>" + table(columns, rows)


def _before_finetuning(row: Row) -> str:
    found = [
        float(one.work.transferred[row.metric])
        for one in row.outcomes.values()
        if one.work is not None and one.work.transferred is not None
    ]
    return f"{100 * sum(found) / len(found):.1f}" if found else ""


def _answers(found: Sequence[Answer]) -> str:
    sentences = "".join(f'<p class="verdict">{text(one.sentence)}</p>' for one in found)
    return f"<h2>Would more labels, or more of the pool, help?</h2>{sentences}"


def _differences(comparison: Comparison) -> str:
    lines = [_difference(compared_line(one), one.difference) for one in comparison.differences]
    note = (
        "In points, with the interval that contains the true difference 95 times in 100, over other test "
        "images and other seeds. Rows are paired: the same images and, for each seed, the same labels. The "
        "interval combines a bootstrap over images with Student's t over the per-seed differences, which"
        " is wide with "
        "two or three seeds; with one seed it accounts for images only. Above and below: it excludes 0."
    )
    columns = ["row", "against", "labels", "difference", "verdict", "seeds"]
    lacking = "; ".join(
        f"{one.name} and {other.name} ({budget(one.labels)})"
        for one, other in without_common_seed(comparison.rows, comparison.recipe)
    )
    told = f"<p>{text(f'Not compared, since they have no seed in common: {lacking}.')}</p>" if lacking else ""
    return f"<h2>Is it more than noise?</h2><p>{text(note)}</p>" + table(columns, lines) + told


def _difference(line: list[str], difference: Difference) -> list[str]:
    cells = [text(cell) for cell in line]
    return cells if difference.within_noise else [*cells[:4], f"<b>{cells[4]}</b>", *cells[5:]]


def _costs(comparison: Comparison) -> str:
    lines = [[text(cell) for cell in line] for line in ledger_lines(comparison)]
    note = (
        "Means over the cells of a row. Shared work is counted in full in every cell that needs it, although "
        "it was done once; the teacher's row has the parts of adapting it. A command's own line is for the "
        "model that learns (or, frozen, provides features), with the seconds of all its parts; the work of "
        "other models and of evaluations on val follows. Measuring on test is not counted."
    )
    terms = (
        "Seconds are wall-clock time on this machine; FLOPs count matrix products, convolutions and "
        "attention, with a multiply-add as two. Tuning is the cost of the search for the best settings"
        " beyond "
        "the chosen run; it is not in any total. compare.json has every part."
    )
    columns = ["row", "labels", "stage", "images", "FLOPs", "seconds", ""]
    unfolded = " open" if len(lines) <= _UNFOLDED else ""
    return (
        f"<h2>What it cost</h2><p>{text(note)}</p><p>{text(terms)}</p>"
        f"<details{unfolded}><summary>Every stage of every row</summary>{table(columns, lines)}</details>"
    )


_Plots = dict[str, tuple[bytes, str]]


def _plots(comparison: Comparison) -> _Plots:
    rows, recipe = comparison.rows, comparison.recipe
    if not rows:
        return {}
    costs = [mean_cost(row) for row in rows]
    spread = "mean ± standard deviation over seeds"
    beside = " Numbers beside the points: labels per class." if len({row.labels for row in rows}) > 1 else ""
    words = f"Test {plots.metric_name(recipe.metric)} of the students, {spread}, against the FLOPs of a cell;"
    words += f" the teacher is a line.{beside}"
    found = {"cost": (plots.accuracy_against_cost(rows, costs), words)}
    for name, curves in (("labels", label_curves(rows)), ("sets", set_curves(rows, recipe))):
        if curves:
            words = f"Learning curves over {curves[0].over}, {spread}; points of one size are side by side."
            found[name] = (plots.learning_curves(curves), words)
    shown = _shown(comparison)
    words = "Share of each class's test images that is classified correctly, mean over seeds; no bar: none."
    found["classes"] = (plots.per_class(shown), words)
    words = (
        "How often answers of a given confidence are right, all seeds together, where there are at least 5. "
        "Below the dashed line: overconfident. The error is the mean distance from it."
    )
    found["calibration"] = (plots.reliability(shown), words)
    words = "What the images of each class (rows) were classified as, all seeds together."
    found["confusion"] = (plots.confusion(shown[0]), words)
    return found


def _shown(comparison: Comparison) -> list[Row]:
    """Some rows of the last label budget that has any: what is compared with the others first, then the
    teacher and labels only, then the rest."""
    rows, recipe = comparison.rows, comparison.recipe
    labels = next(
        one for one in (*reversed(recipe.labels), rows[-1].labels) if any(r.labels == one for r in rows)
    )
    ours = reference(rows, recipe, labels)
    order = {TEACHER: 1, LABELS_ONLY: 2}
    own = [row for row in rows if row.labels == labels]
    return sorted(own, key=lambda row: 0 if row is ours else order.get(row.method, 3))[:_SHOWN_ROWS]


def _pictures(pictures: _Plots, names: Sequence[str]) -> str:
    found = "".join(plot(*pictures[name], captioned=True) for name in names if name in pictures)
    return f'<div class="plots">{found}</div>' if found else ""


def _classes(comparison: Comparison, pictures: _Plots) -> str:
    found = _pictures(pictures, ("classes", "calibration", "confusion"))
    if not found:
        return ""
    shown = _shown(comparison)
    note = f"Label budget: {budget(shown[0].labels)}"
    left = sum(row.labels == shown[0].labels for row in comparison.rows) - len(shown)
    note += f"; {left} more rows of it are only in the table." if left else "."
    return f"<h2>Where they err</h2><p>{text(note)}</p>{found}"


def _disagreements(comparison: Comparison) -> str:
    if not comparison.rows:
        return ""
    shown = _shown(comparison)
    student = shown[0]
    teacher = next((r for r in shown if r.method == TEACHER and r.key[2] in ("", student.key[2])), None)
    if teacher is None or student.method == TEACHER:
        return ""
    found = disagreements(teacher, student, comparison.out / "labels")
    pictures = "".join(figure(one.thumbnail, _caption(one), "odd") for one in found)
    title = f"Where {student.name} and its teacher disagree most"
    note = (
        "Test images on which the two give different answers for the first seed that both have, largest "
        "divergence of their probabilities first; ✓: right."
    )
    shown_html = f'<div class="row">{pictures}</div>' if found else "<p>Nowhere.</p>"
    return f"<h2>{text(title)}</h2><p>{text(note)}</p>{shown_html}"


def _caption(one: Disagreement) -> str:
    def said(who: str, answer: tuple[str, float]) -> str:
        right = "\N{NO-BREAK SPACE}✓" if answer[0] == one.label else ""
        return text(f"{who}: {answer[0]} {100 * answer[1]:.0f}\N{NO-BREAK SPACE}%{right}")

    return f"<b>{text(one.label)}</b><br>{said('teacher', one.teacher)}<br>{said('student', one.student)}"


def _missing(comparison: Comparison) -> str:
    missing = [one for one in comparison.outcomes if one.status != DONE]
    if not missing:
        return ""
    lines = [[text(one.cell.name), text(one.status), text(one.reason or "")] for one in missing]
    return "<h2>Not in the table</h2>" + table(["cell", "status", "why"], lines)
