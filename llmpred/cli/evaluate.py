"""`llmpred evaluate`: metrics, confidence and robustness of one run, or of kept weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args

import typer

from llmpred.cli.common import (
    DEFAULT_STORAGE,
    Json,
    Storage,
    cell,
    complain,
    line,
    open_ledger,
    print_json,
    split,
    wait_passively,
    warn,
)
from llmpred.cli.common import table as show_table
from llmpred.cli.compare import suite_of
from llmpred.errors import InputError, Problem, nearest

if TYPE_CHECKING:
    from llmpred.inference import Predictor
    from llmpred.ledger import Ledger, RunRecord
    from llmpred.report.asking import Perturbing
    from llmpred.report.evaluation import Answered

DEVICE = Literal["auto", "cpu", "cuda"]
LABELS = 12  # rows of labels on the screen
WIDE = 8  # labels of a confusion matrix on the screen
UNSURE = 5  # least certain answers on the screen
WIDTH = 70  # columns of a text
FILES = {
    "metrics": "metrics.json",
    "confidence": "confidence_analysis.json",
    "robustness": "robustness_result.json",
}


def evaluate(
    run: Annotated[
        str, typer.Argument(metavar="RUN|FOLDER", help="Key of a run, or kept weights.")
    ],
    suite: Annotated[
        list[str] | None,
        typer.Option(help=f"Of {', '.join(FILES)}; default: metrics,confidence."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Labelled rows; default: those the run was scored on."),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=COLUMN", help="Of --data, such as text=review. Repeatable."),
    ] = None,
    storage: Storage = DEFAULT_STORAGE,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="New folder for JSON files and plots.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Rows to ask the model about; default: all.")
    ] = None,
    kinds: Annotated[
        list[str] | None,
        typer.Option(help="Perturbations, such as typo_insertion; default: all. Repeatable."),
    ] = None,
    strengths: Annotated[
        list[str] | None,
        typer.Option(help="Shares of the places that change; default: 0.1,0.3,0.5."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the rows and the perturbations.")] = 0,
    positive: Annotated[
        str | None, typer.Option(metavar="LABEL", help="The positive one of two labels.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Where the base model lies, if not where the run says.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    json: Json = False,
) -> None:
    """Measure a run: metrics and confidence of its stored answers, robustness by asking it anew."""
    wanted = suite_of(suite)
    if device not in get_args(DEVICE):
        law = f"--device must be one of {', '.join(get_args(DEVICE))}, but got {device!r}"
        raise InputError(Problem(law, fix=nearest(device, get_args(DEVICE))))
    perturbing = _perturbing(wanted, kinds, strengths, seed, limit)
    if columns and data is None:
        law = "--columns is about the columns of --data, which is not given"
        raise InputError(Problem(law, fix="Give --data, or leave --columns out."))
    if out is not None:
        from llmpred.report.run_folder import check_empty

        check_empty(out)
    wait_passively()
    from llmpred.report import evaluation
    from llmpred.report.asking import robustness_of

    model = _Model(run, base, cast(DEVICE, device), storage)
    record, ledger = (None, None) if data is not None else _recorded(run, storage)
    if record is not None and ledger is not None:
        found = evaluation.stored(ledger, record)
    else:
        found = evaluation.asked(model.get(), _source(data, columns), limit=limit, seed=seed)
    results: dict[str, Any] = {}
    without: dict[str, str] = {}
    if "metrics" in wanted:
        results["metrics"] = evaluation.measured(found, positive)
    if "confidence" in wanted:
        sure, why = evaluation.surety(found)
        if sure is None:
            without["confidence"] = why
        else:
            results["confidence"] = sure
    if perturbing is not None:
        if not found.is_classification:
            task = found.spec.task.name
            without["robustness"] = f"it is that of a classification, and {task} is none"
        elif found.examples is None:
            without["robustness"] = "; ".join(found.notes)
        else:
            results["robustness"] = robustness_of(model.get(), found.examples, perturbing)
    plots = [] if out is None else _write(found, results, out)
    if json:
        print_json({"source": found.source, **results, "without": without})
        return
    line(f"{run}: {found.source}, {len(found.predictions):,} rows, task {found.spec.task.name}")
    for note in found.notes:
        complain(f"note: {note}")
    for part, show in (
        ("metrics", _show_metrics),
        ("confidence", _show_confidence),
        ("robustness", _show_robustness),
    ):
        if part in results:
            show(results[part])
    warn(_warnings(results))
    for part, why in without.items():
        complain(f"no {part}: {why}")
    if out is not None:
        written = [FILES[part] for part in results] + [plot.name for plot in plots]
        line(f"written to {out}: {', '.join(written)}")


class _Model:
    """The model, loaded when it is first asked for."""

    def __init__(self, run: str, base: str | None, device: DEVICE, storage: str) -> None:
        self._how = (run, base, device, storage)
        self._loaded: Predictor | None = None

    def get(self) -> Predictor:
        if self._loaded is None:
            from llmpred.inference import Predictor

            self._loaded = Predictor.load(*self._how)
            for note in self._loaded.notes:
                complain(f"note: {note}")
        return self._loaded


def _recorded(run: str, storage: str) -> tuple[RunRecord | None, Ledger | None]:
    """Return the record of a key, or of the run that trained a folder's weights, if there is one.

    A folder whose weights are not those of its run has none.
    """
    from llmpred.engine import kept
    from llmpred.inference.predictor import INSIDE

    ledger = open_ledger(storage)
    folder = Path(run).expanduser()
    if not folder.is_dir():
        return ledger.get(run), ledger
    inside = [folder, *(folder / name for name in INSIDE)]
    places = [place for place in inside if (place / kept.RUN).is_file()]
    if not places:
        return None, None
    told = kept.read(places[0])
    kept.check_files(places[0], told)
    return (ledger.get(told.key), ledger) if ledger.has(told.key) else (None, None)


def _source(data: str | None, columns: list[str] | None) -> Any:
    from llmpred.cli.data import pairs_of
    from llmpred.spec.run import SourceSpec

    return data and SourceSpec(source=data, columns=pairs_of(columns, "--columns"))


def _perturbing(
    wanted: tuple[str, ...],
    kinds: list[str] | None,
    strengths: list[str] | None,
    seed: int,
    limit: int | None,
) -> Perturbing | None:
    """Return how robustness is asked for, checked before anything is loaded."""
    if "robustness" not in wanted:
        given = {"--kinds": kinds, "--strengths": strengths}
        problems = [
            Problem(f"{name} belongs to robustness", fix="Add it to --suite, or leave this out.")
            for name, value in given.items()
            if value
        ]
        if problems:
            raise InputError(problems)
        return None
    from llmpred.evaluation.perturbations import PERTURBATIONS
    from llmpred.report.asking import Perturbing

    problems = [
        Problem(f"a perturbation must be a known one, but got {kind!r}", "--kinds", fix)
        for kind in split(kinds)
        if kind not in PERTURBATIONS and (fix := nearest(kind, [*PERTURBATIONS]))
    ]
    shares = []
    for text in split(strengths):
        try:
            shares.append(float(text))
        except ValueError:
            problems.append(Problem(f"a strength must be a number, but got {text!r}"))
    if problems:
        raise InputError(problems)
    return Perturbing(tuple(split(kinds)) or None, tuple(shares) or None, limit, seed)


def _write(found: Answered, results: Mapping[str, Any], out: Path) -> list[Path]:
    """Write the JSON file of each part, and the plots of a classification; return these."""
    from llmpred.report.evaluation import draw
    from llmpred.report.run_folder import dump

    out.mkdir(parents=True, exist_ok=True)
    for part, content in results.items():
        dump(out / FILES[part], content)
    if "metrics" not in results or not found.is_classification:
        return []
    return [*draw(results["metrics"], results.get("confidence"), out)]


# --- on the screen --------------------------------------------------------------------------------


def _warnings(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield what makes figures mean less than they seem to."""
    from llmpred.evaluation.significance import wilson
    from llmpred.report.classification import never_predicted
    from llmpred.report.comparison import is_near

    figures, robust = results.get("metrics", {}), results.get("robustness")
    if figures.get("never_predicted"):
        yield f"labels that are never predicted: {never_predicted(figures)}"
    if robust is not None:
        accuracy, share = robust["original_accuracy"], robust["majority_share"]
        lower, _ = wilson(round(accuracy * robust["n"]), robust["n"])
        if is_near(lower, share):
            yield (
                f"robustness says little of this run: its accuracy ({accuracy:.3f}) is not clearly "
                f"better than always giving the commonest label ({share:.3f}), and answers that "
                "never change are robust"
            )


def _show_metrics(told: Mapping[str, Any]) -> None:
    if "confusion_matrix" not in told:
        rows = [[name, value] for name, value in told.items() if isinstance(value, float)]
        show_table(["metric", "value"], rows, title="metrics")
        return
    wilson = told["intervals"]["wilson_accuracy"]
    macro = told["intervals"]["bootstrap"]["macro_f1"]
    of = "" if told["averaging"] == "macro" else f" of {told['positive']}"
    rows = [
        ["accuracy", cell(told["accuracy"]), _range(wilson)],
        [f"precision{of}", cell(told["precision"]), ""],
        [f"recall{of}", cell(told["recall"]), ""],
        [f"F1{of}", cell(told["f1"]), ""],
        ["macro-F1", cell(told["macro"]["f1"]), _range(macro)],
        ["AUC", cell(told["auc"]), told["undefined"].get("auc", "")],
        ["Matthews correlation", cell(told["matthews_correlation"]), ""],
        [f"always {told['majority']}", cell(told["majority_share"]), "accuracy of the majority"],
    ]
    show_table(["metric", "value", "95 % interval"], rows, title="metrics")
    labels = told["labels"]
    if 2 < len(labels) <= LABELS:
        each = told["per_label"]
        names = ("precision", "recall", "f1", "support")
        show_table(["label", *names], [[n, *(each[n][m] for m in names)] for n in labels])
    if len(labels) <= WIDE:
        counts = zip(labels, told["confusion_matrix"], strict=True)
        show_table(
            ["target, answered", *told["confusion_columns"]],
            [[label, *row] for label, row in counts],
            title="confusion matrix",
        )


def _range(told: Mapping[str, float]) -> str:
    return f"{told['lower']:.3f} to {told['upper']:.3f}"


def _show_confidence(told: Mapping[str, Any]) -> None:
    scaling = told["temperature_scaling"]
    after = "" if not scaling["after"] else f", {scaling['after']['ece']:.3f} temperature-scaled"
    bars = [
        [row["range"], row["count"], cell(row["accuracy"]), "█" * round(40 * row["share"])]
        for row in told["confidence_distribution"]
        if row["count"]
    ]
    title = (
        f"confidence: mean {told['avg_confidence']:.3f}, above 0.9 "
        f"{told['high_confidence_ratio']:.1%}; ECE {told['ece']:.3f}{after}; Brier score "
        f"{told['brier']:.3f}"
    )
    show_table(["confidence", "answers", "accuracy", "share"], bars, title=title)
    samples = told["low_confidence_samples"][:UNSURE]
    rows = [
        [s["id"], s["target"], s["prediction"], s["confidence"], _shortened(s.get("text"))]
        for s in samples
    ]
    names = ["id", "target", "answer", "confidence", "text"]
    show_table(names, rows, title=f"the {len(rows)} least certain answers")


def _shortened(text: str | None) -> str:
    from rich.text import Text

    made = Text(" ".join((text or "").split()))
    made.truncate(WIDTH, overflow="ellipsis")  # by columns: a Chinese character takes two
    return made.plain


def _show_robustness(told: Mapping[str, Any]) -> None:
    strengths = [f"{strength:g}" for strength in told["strengths"]]
    rows = []
    for kind, test in told["perturbation_tests"].items():
        blocks = test["strengths"]
        name = kind if test["keeps_label"] else f"{kind} (target: the opposite)"
        each = [cell((blocks.get(s) or {}).get("accuracy")) for s in strengths]
        shown = [cell(test[figure]) for figure in ("score", "flip_rate", "accuracy")]
        rows.append([name, test["n"], *shown, *each])
    interval = told["interval"]
    between = "" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})"
    title = (
        f"robustness {cell(told['robustness_score'])}{between}: accuracy "
        f"{cell(told['original_accuracy'])} before, {cell(told['perturbed_accuracy'])} after"
    )
    heads = ["perturbation", "changed", "score", "flipped", "accuracy"]
    show_table([*heads, *(f"at {s}" for s in strengths)], rows, title=title)
