"""How long a model thinks about a prompt: `counts` of its reasoning, as classes or as a number.

Whatever a method is taught, its answer is mapped back to counts, so that all are judged alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from llmpred.data.fields import Example, Field
from llmpred.errors import DataError, Problem, SpecError
from llmpred.spec.run import ClusterSpec, TargetSpec, TaskSpec
from llmpred.tasks.base import ID, LEVELS, Calibration, Prediction, Task, mean
from llmpred.tasks.complexity.counting import COUNTS, count
from llmpred.tasks.complexity.tags import PROMPT_FEATURES, prompt_features, tagged

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

DIGITS = 10  # that are kept of what is learnt: the last ones differ from one machine to another


class Complexity(Task):
    """One prompt; how long a model thinks about it.

    A row brings `counts`, or the `response` that is counted; of several rows with one prompt the
    median counts. An answer is the label (of a regression none), the mean and the quantiles of the
    counts at `LEVELS`: a label's are those of the training rows that have it; a regression's come
    from isotonic regression on rows held out, an ordinal model's from the mixture of its labels.

    The primary metric, `inverse_mae`, is 1 / (1 + mean absolute error in counts), whatever is
    taught: scores on labels of their own could not be compared.
    """

    name = "complexity"
    fields = (
        ID,
        Field("prompt", "text", "input", aliases=("prompt", "question", "instruction", "input")),
        Field(
            "response",
            "text",
            "target",
            required=False,
            aliases=("response", "reasoning", "output", "answer", "completion"),
        ),
        COUNTS,
    )
    long_field = "prompt"
    heads = ("classifier", "boosted")
    metric = "inverse_mae"
    measures = "counts"
    prompts: ClassVar[Mapping[str, str]] = {"en": "{prompt}", "zh": "{prompt}"}

    def parse(self, row: Mapping[str, Any]) -> Example:
        """Return the row; counts are no less than 0."""
        if row.get("counts", 0) < 0:
            raise ValueError(f"`counts` must be at least 0, but got {row['counts']}")
        return dict(row)

    def derive(self, spec: TaskSpec, table: pa.Table) -> tuple[pa.Table, tuple[str, ...]]:
        """Return one row a prompt, with its counts; cut-off thoughts are left out if asked to."""
        import numpy as np
        import pyarrow as pa

        target = spec.target or TargetSpec()
        groups: dict[str, list[int]] = {}
        counts, notes = self._counts(target, table)
        for place, prompt in enumerate(table["prompt"].to_pylist()):
            if counts[place] is not None:
                groups.setdefault(prompt, []).append(place)
        if not groups:
            law = "no row has counts, or a response whose thoughts are whole"
            raise DataError(Problem(law, fix="Map `counts` or `response`, or keep censored rows."))
        several = sum(len(places) > 1 for places in groups.values())
        if several:
            notes += (
                f"{several:,} prompts have several rows; the median of their counts is taken",
            )
        names = [name for name in table.column_names if name not in ("response", "counts")]
        kept = table.select(names).take([places[0] for places in groups.values()])
        medians = [float(np.median([counts[p] for p in places])) for places in groups.values()]
        field = pa.field("counts", pa.float64(), metadata={"role": "target", "kind": "number"})
        return kept.append_column(field, pa.array(medians, pa.float64())), notes

    def _counts(
        self, target: TargetSpec, table: pa.Table
    ) -> tuple[list[float | None], tuple[str, ...]]:
        """Return the counts of each row, None of those that take no part, and notes."""
        nothing = [None] * table.num_rows
        given = table["counts"].to_pylist() if "counts" in table.column_names else nothing
        told = table["response"].to_pylist() if "response" in table.column_names else nothing
        counts: list[float | None] = []
        cut = missing = 0
        for number, response in zip(given, told, strict=True):
            if number is not None or response is None:
                counts.append(number)
                missing += number is None
                continue
            found = count(response, target.counts)
            cut += found.censored
            dropped = found.censored and target.censored == "drop"
            counts.append(None if dropped else float(found.count))
        if missing:
            law = f"every row needs `counts` or a `response`, but {missing} have neither"
            raise DataError(Problem(law, fix="Map the columns, or leave these rows out."))
        what = "left out" if target.censored == "drop" else "counted as far as they go"
        notes = (f"{cut:,} of {table.num_rows:,} thoughts are cut off: {what}",) if cut else ()
        return counts, notes

    def learn(self, spec: TaskSpec, train: pa.Table) -> tuple[TaskSpec, pa.Table, tuple[str, ...]]:
        """Settle borders, clusters and scale from training rows; rows beyond a limit leave."""
        target = spec.target or TargetSpec()
        if not _is_settled(target):
            if not train.num_rows:
                law = (
                    f"target.kind `{target.kind}` is learnt from training rows, but there are none"
                )
                raise SpecError(Problem(law, "task.target"))
            prompts = train["prompt"].to_pylist()
            target, notes = _settled(target, train["counts"].to_numpy(), prompts)
        else:
            notes = ()
        if target.clusters is not None and target.clusters.limit is not None and train.num_rows:
            import pyarrow.compute as pc

            within = train.filter(pc.less_equal(train["counts"], target.clusters.limit))
            if (left := train.num_rows - within.num_rows) > 0:
                notes += (
                    f"{left:,} training rows with more than {target.clusters.limit:g} counts are "
                    "left out as outliers",
                )
            train = within
        return spec.model_copy(update={"target": target}), train, notes

    def settle(self, spec: TaskSpec, examples: Sequence[Example]) -> TaskSpec:
        """Settle the language and prompt; and from these rows what was not learnt before."""
        import numpy as np

        spec = super().settle(spec, examples)
        target = spec.target or TargetSpec()
        if not _is_settled(target):
            counts = np.array([example["counts"] for example in examples], float)
            target, _ = _settled(target, counts, [example["prompt"] for example in examples])
        return spec.model_copy(update={"target": target})

    def slots(self, example: Example, spec: TaskSpec) -> dict[str, str]:
        """Return the prompt, with its tags if the target has them."""
        prompt = str(example["prompt"])
        return {"prompt": tagged(prompt) if _target(spec).tags else prompt}

    def class_names(self, spec: TaskSpec) -> tuple[str, ...] | None:
        """Return the numbers of the labels, by ascending counts; None of a regression."""
        target = _target(spec)
        return None if target.is_regression else tuple(map(str, range(_size(target))))

    def outputs(self, spec: TaskSpec, loss: str | None) -> int:
        """Return the outputs of a head: a value, quantiles, borders between labels, or labels."""
        target = _target(spec)
        if target.is_regression:
            return len(LEVELS) if loss == "pinball" else 1
        return _size(target) - 1 if loss == "ordinal" else _size(target)

    def features(self, example: Example, spec: TaskSpec) -> tuple[float, ...]:
        """Return the features of the prompt that `boosted` reads beside its states."""
        return tuple(prompt_features(str(example["prompt"])).values())

    def label(self, example: Example, spec: TaskSpec) -> int | None:
        """Return the label of an example with counts; None of a regression."""
        import numpy as np

        from llmpred.tasks.complexity import labels

        target, counts = _target(spec), np.array([example["counts"]])
        if target.kind in ("counts", "log1p"):
            return None
        if target.clusters is not None:
            features = _features([str(example["prompt"])])
            return int(labels.nearest(counts, features, target.clusters)[0])
        assert target.edges is not None  # settled
        return int(labels.assigned(counts, target.edges)[0])

    def answer_index(self, example: Example, spec: TaskSpec) -> int:
        """Return the label; -1 of a regression."""
        found = self.label(example, spec)
        return -1 if found is None or _target(spec).is_regression else found

    def value(self, example: Example, spec: TaskSpec) -> float:
        """Return what a regression is taught, in standard deviations from its mean."""
        target = _target(spec)
        if not target.is_regression:
            return 0.0
        assert target.scale is not None  # settled
        center, scale = target.scale
        import numpy as np

        return float((_taught(target, np.array([example["counts"]]))[0] - center) / scale)

    def target(self, example: Example, spec: TaskSpec) -> str:
        """Return the counts as text."""
        return repr(float(example["counts"]))

    def read(self, text: str, spec: TaskSpec) -> dict[str, Any]:
        """Return counts that a text says, as an answer without doubt."""
        counts = float(text)
        return {"mean": counts, "quantiles": [counts] * len(LEVELS)}

    def gold(self, example: Example, spec: TaskSpec) -> dict[str, Any]:
        """Return the counts, and the label that they have."""
        return {"counts": float(example["counts"]), **_of_label(self.label(example, spec))}

    def calibrate(
        self,
        spec: TaskSpec,
        loss: str | None,
        train: Sequence[Example],
        held_out: Callable[[], tuple[Sequence[Example], Sequence[Sequence[float]]]],
    ) -> Calibration:
        """Return how scores are mapped back to counts.

        Of labels, by the training rows that have each; of values, by isotonic regression of the
        counts on the value (the median, of quantiles).
        """
        import numpy as np

        from llmpred.tasks.complexity import mapping
        from llmpred.tasks.complexity.routes import limits_of

        counts = np.array([example["counts"] for example in train], float)
        limits = limits_of(counts)
        if not _target(spec).is_regression:
            have = np.array([self.label(example, spec) for example in train], int)
            table = mapping.counts_by_label(have, counts, _size(_target(spec)), LEVELS)
            if loss != "ordinal":  # the likeliest label is read, not a mixture
                table = [each.model_copy(update={"counts": ()}) for each in table]
            read = mapping.Readings(labels=tuple(table), mixture=loss == "ordinal", limits=limits)
        else:
            rows, scores = held_out()
            known = np.array([example["counts"] for example in rows], float)
            values = mapping.from_scores(_middle(scores), known, LEVELS)
            read = mapping.Readings(values=values, limits=limits)
        return read.model_dump(mode="json")

    def check_calibration(
        self, spec: TaskSpec, loss: str | None, calibration: Calibration | None
    ) -> None:
        """Refuse what `calibrate` would not have returned.

        Raises:
            ValueError: with the law that it breaks.
        """
        from llmpred.tasks.complexity.mapping import Readings

        if calibration is None:
            raise ValueError("there must be one, which says what scores mean in counts")
        read, target = Readings.model_validate(calibration), _target(spec)
        if (read.values is not None) != target.is_regression:
            raise ValueError(f"it must be of a target of kind `{target.kind}`")
        if read.labels is not None and len(read.labels) != _size(target):
            raise ValueError(f"it must be of {_size(target)} labels")
        quantiles = (
            [read.values.residuals] if read.values else [e.quantiles for e in read.labels or ()]
        )
        if not quantiles or any(len(each) != len(LEVELS) for each in quantiles):
            raise ValueError(f"it must have {len(LEVELS)} quantiles")

    def answers(
        self,
        examples: Sequence[Example],
        spec: TaskSpec,
        scores: Sequence[Sequence[float]],
        calibration: Calibration | None,
    ) -> list[dict[str, Any]]:
        """Return label, mean and quantiles of the counts of each example."""
        import numpy as np

        from llmpred.tasks.complexity import mapping

        if not scores:
            return []
        read = mapping.Readings.model_validate(calibration)
        target, rows = _target(spec), np.array(scores, float)
        labels: list[int | None] = [None] * len(rows)
        if read.labels is not None:
            best = rows.argmax(1)
            labels = best.tolist()
            mean, quantiles = (
                mapping.expected(np.exp(rows), read.labels, LEVELS)
                if read.mixture
                else mapping.plain(best, read.labels)
            )
        else:
            assert target.scale is not None  # settled
            assert read.values is not None  # checked
            taught = rows * target.scale[1] + target.scale[0]
            mean, quantiles = read.values.apply(_middle(scores))
            if rows.shape[1] > 1:
                counts = np.expm1(taught) if target.kind == "log1p" else taught
                quantiles = np.sort(np.maximum(counts, 0.0), axis=1)
            if target.kind == "bin_index":
                labels = np.clip(np.rint(taught[:, 0]), 0, _size(target) - 1).astype(int).tolist()
        return [
            {**_of_label(label), "mean": each, "quantiles": row}
            for label, each, row in zip(labels, mean.tolist(), quantiles.tolist(), strict=True)
        ]

    def told(
        self, example: Example, answer: Any, calibration: Calibration | None
    ) -> dict[str, Any]:
        """Return the route by depth, from thirds of the training counts, and by type of task."""
        import numpy as np

        from llmpred.tasks.complexity.routes import depth, task_type

        assert calibration is not None
        low, high = calibration["limits"]
        median = answer["quantiles"][LEVELS.index(0.5)]
        return {
            "route": depth(np.array([median]), (low, high))[0],
            "type": task_type(str(example["prompt"])),
        }

    def primary(self, predictions: Sequence[Prediction], spec: TaskSpec) -> float:
        """Return 1 / (1 + mean absolute error of the median)."""
        middle = LEVELS.index(0.5)
        off = [abs(p.target["counts"] - p.prediction["quantiles"][middle]) for p in predictions]
        return 1 / (1 + mean(off))

    def score(self, predictions: Sequence[Prediction], spec: TaskSpec) -> dict[str, float]:
        """Return the errors in counts, and how well the method's own labels were found."""
        import numpy as np
        from scipy.stats import spearmanr
        from sklearn.metrics import accuracy_score, f1_score, mean_pinball_loss

        if not predictions:
            law = "there are no predictions to score"
            raise DataError(Problem(law, fix="Evaluate at least one row."))
        actual = np.array([p.target["counts"] for p in predictions], float)
        mean = np.array([p.prediction["mean"] for p in predictions], float)
        quantiles = np.array([p.prediction["quantiles"] for p in predictions], float)
        mae = float(np.abs(actual - quantiles[:, LEVELS.index(0.5)]).mean())
        varied = min(np.ptp(actual), np.ptp(mean)) > 0
        found = {
            self.metric: 1 / (1 + mae),
            "mae": mae,
            "rmse": float(np.sqrt(((actual - mean) ** 2).mean())),
            "pinball": float(
                np.mean(
                    [
                        mean_pinball_loss(actual, quantiles[:, i], alpha=level)
                        for i, level in enumerate(LEVELS)
                    ]
                )
            ),
            "spearman": float(spearmanr(actual, mean).statistic) if varied else 0.0,
        }
        known = [p for p in predictions if "label" in p.target and "label" in p.prediction]
        if known:
            right = [p.target["label"] for p in known]
            said = [p.prediction["label"] for p in known]
            found["accuracy"] = float(accuracy_score(right, said))
            found["macro_f1"] = float(f1_score(right, said, average="macro", zero_division=0))
        return found


def _target(spec: TaskSpec) -> TargetSpec:
    assert spec.target is not None  # settled
    return spec.target


def _of_label(label: int | None) -> dict[str, int]:
    return {} if label is None else {"label": label}


def _middle(scores: Sequence[Sequence[float]]) -> Floats:
    """Return the value that is predicted, the median of quantiles."""
    import numpy as np

    return np.array([row[len(row) // 2] for row in scores], float)


def _size(target: TargetSpec) -> int:
    """Return how many labels there are."""
    if target.clusters is not None:
        return len(target.clusters.centroids)
    assert target.edges is not None  # settled
    return len(target.edges) - 1


def _is_settled(target: TargetSpec) -> bool:
    if target.is_regression:
        return target.scale is not None
    return (target.clusters if target.kind == "clusters" else target.edges) is not None


def _features(prompts: Sequence[str]) -> Floats:
    """Return the features of prompts, [prompts, PROMPT_FEATURES]."""
    import numpy as np

    rows = [[*prompt_features(prompt).values()] for prompt in prompts]
    return np.array(rows, float).reshape(len(rows), len(PROMPT_FEATURES))


def _taught(target: TargetSpec, counts: Floats) -> Floats:
    """Return what a regression is taught of counts, before it is standardised."""
    import numpy as np

    from llmpred.tasks.complexity import labels

    if target.kind == "log1p":
        return np.log1p(counts)
    if target.kind == "bin_index":
        assert target.edges is not None  # the spec has them
        return np.asarray(labels.assigned(counts, target.edges), float)
    return counts


def _settled(
    target: TargetSpec, counts: Floats, prompts: Sequence[str]
) -> tuple[TargetSpec, tuple[str, ...]]:
    """Return a target with what is learnt from training rows, and notes."""
    from llmpred.tasks.complexity import labels

    notes: tuple[str, ...] = ()
    change: dict[str, Any] = {"tags": target.tags or None}
    if target.is_regression:
        taught = _taught(target, counts)
        change["scale"] = _rounded((float(taught.mean()), float(taught.std()) or 1.0))
    elif target.kind == "clusters":
        outliers = target.outliers or "keep"
        found = labels.fit_clusters(
            counts, _features(prompts), k=target.k or labels.K[outliers], outliers=outliers
        )
        clusters = ClusterSpec(
            center=_rounded(found.center),
            scale=_rounded(found.scale),
            centroids=tuple(map(_rounded, found.centroids)),
            limit=None if found.limit is None else _rounded([found.limit])[0],
        )
        change |= {"clusters": clusters, "k": len(clusters.centroids), "outliers": outliers}
    elif target.kind != "edges":
        make = {"equal_width": labels.equal_width_edges, "quantile": labels.quantile_edges}
        bins = target.bins or labels.BINS
        edges = make[target.kind](counts, bins)
        change |= {"edges": _rounded(edges.edges), "bins": bins}
        if edges.merged:
            notes = (
                f"{edges.merged} of {bins} quantile bins fall together: {len(edges.edges) - 1} are "
                "left",
            )
    target = target.model_copy(update=change)
    if not target.is_regression and _size(target) < 2:
        law = f"labels of kind `{target.kind}` must be two or more, but all counts have the same"
        fix = "Count something else (`task.target.counts`), or take another kind."
        raise SpecError(Problem(law, "task.target", fix))
    return target, notes


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(f"{value:.{DIGITS}g}") for value in values)
