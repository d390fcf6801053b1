"""`report.html` and its plots: the table, what follows from it, what it cost, and where models err."""

from collections.abc import Sequence

from distill.comparison import plots
from distill.comparison.answers import Row, reference, without_common_seed
from distill.comparison.compare import Comparison, mean_cost
from distill.comparison.curves import Answer, answers, label_curves, set_curves
from distill.comparison.disagreement import Disagreement, disagreements
from distill.comparison.ledger import ledger_lines
from distill.comparison.recipe import LABELS_ONLY, TEACHER
from distill.comparison.runner import DONE
from distill.comparison.tables import budget, compared_line
from transferset.report import figure, page, plot, table, text
from transferset.writes import write_bytes

HTML, PLOTS = "report.html", "plots"
_SHOWN_ROWS = 6


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
            _classes(pictures),
            _disagreements(comparison),
            _missing(comparison),
        ]
    )
    write_bytes(comparison.out / HTML, page("Comparison", body).encode())


def _head(comparison: Comparison) -> str:
    recipe = comparison.recipe
    done = sum(one.status == DONE for one in comparison.outcomes)
    test = _test_images(comparison.rows)
    sentence = (
        f"{plots.metric_name(recipe.metric)} on {test:,} test images; {len(recipe.seeds)} seeds; "
        f"{done} of {len(comparison.outcomes)} cells are done. Val alone has chosen everything; the test "
        "split was looked at once, at the end of each cell."
    )
    return f"<p>{text(sentence)}</p>"


def _test_images(rows: Sequence[Row]) -> int:
    return next((len(one.images) for row in rows for one in row.answers.values()), 0)


def _table(comparison: Comparison) -> str:
    rows = []
    for row in comparison.rows:
        spread, cost = row.spread, mean_cost(row)
        size = "" if row.set_images is None else f"{row.set_images:,.0f}"
        before = _before_finetuning(row)
        cells = [row.name, budget(row.labels), size]
        cells += [spread.percent, before, str(spread.runs)]
        cells += [f"{cost.flops:.2g}", f"{cost.seconds:,.0f}"]
        rows.append([text(cell) for cell in cells])
    columns = ["", "labels", "images of the set", "%, mean ± sd over seeds", "before finetuning"]
    columns += ["seeds", "FLOPs of a cell", "seconds"]
    return "<h2>The table</h2>" + table(columns, rows)


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
    lines = [[text(cell) for cell in compared_line(one)] for one in comparison.differences]
    note = (
        "In points, with the interval that holds the true difference 95 times in 100, for other test images "
        "and other seeds. Rows are paired: the same images, and under one seed the same labels drawn. The "
        "interval joins a bootstrap over images with Student's t of the differences of the seeds, which is "
        "wide where there are two or three; with one seed it knows of images alone. Above and below: it "
        "excludes 0."
    )
    columns = ["", "against", "labels", "difference", "", "seeds"]
    lacking = "; ".join(
        f"{one.name} and {other.name} ({budget(one.labels)})"
        for one, other in without_common_seed(comparison.rows, comparison.recipe)
    )
    told = f"<p>{text(f'Not compared, for they have no seed in common: {lacking}.')}</p>" if lacking else ""
    return f"<h2>Is it more than noise?</h2><p>{text(note)}</p>" + table(columns, lines) + told


def _costs(comparison: Comparison) -> str:
    lines = [[text(cell) for cell in line] for line in ledger_lines(comparison)]
    note = (
        "Means over the cells of a row. What is shared is counted in full in every cell that needs it, and "
        "was paid once. Seconds are wall-clock time on this machine; FLOPs count matrix products, "
        "convolutions and attention, one multiplication with addition being two. Tuning is what the search "
        "for the best settings cost beyond the run that was chosen; it is in no total. Choosing on val is "
        "(evaluate); measuring on test is not. Parts of a command have FLOPs of their own, and their seconds "
        "are among the command's; compare.json has every part."
    )
    columns = ["", "labels", "stage", "images", "FLOPs", "seconds", ""]
    return f"<h2>What it cost</h2><p>{text(note)}</p>" + table(columns, lines)


_Plots = dict[str, tuple[bytes, str]]


def _plots(comparison: Comparison) -> _Plots:
    rows, recipe = comparison.rows, comparison.recipe
    if not rows:
        return {}
    costs = [mean_cost(row) for row in rows]
    found = {"cost": (plots.accuracy_against_cost(rows, costs), "The metric of every row against its FLOPs")}
    for name, curves in (("labels", label_curves(rows)), ("sets", set_curves(rows, recipe))):
        if curves:
            found[name] = (plots.learning_curves(curves), f"Learning curves over {curves[0].over}")
    shown = _shown(comparison)
    found["classes"] = (plots.per_class(shown), "How many images of every class are right")
    found["calibration"] = (plots.reliability(shown), "How often an answer of a given confidence is right")
    found["confusion"] = (plots.confusion(shown[0]), "What the images of each class were called")
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
    found = "".join(plot(*pictures[name]) for name in names if name in pictures)
    return f'<div class="plots">{found}</div>' if found else ""


def _classes(pictures: _Plots) -> str:
    found = _pictures(pictures, ("classes", "calibration", "confusion"))
    return f"<h2>Where they err</h2>{found}" if found else ""


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
    note = "Test images to which the two give different answers, by the divergence of their probabilities."
    shown_html = f'<div class="row">{pictures}</div>' if found else "<p>Nowhere.</p>"
    return f"<h2>{text(title)}</h2><p>{text(note)}</p>{shown_html}"


def _caption(one: Disagreement) -> str:
    def said(who: str, answer: tuple[str, float]) -> str:
        right = " ✓" if answer[0] == one.label else ""
        return text(f"{who}: {answer[0]} {100 * answer[1]:.0f} %{right}")

    return f"<b>{text(one.label)}</b><br>{said('teacher', one.teacher)}<br>{said('student', one.student)}"


def _missing(comparison: Comparison) -> str:
    missing = [one for one in comparison.outcomes if one.status != DONE]
    if not missing:
        return ""
    lines = [[text(one.cell.name), text(one.status), text(one.reason or "")] for one in missing]
    return "<h2>Not in the table</h2>" + table(["cell", "", "why"], lines)
