"""Numbers as numbers: whether one is due after a text, and its value.

With head `numeric` each number of a text is one token, `<NUM>`, and its value; with `causal_lm` it
is digits as any other text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from llmpred.data.fields import Example, Field
from llmpred.errors import DataError, Problem
from llmpred.spec.checks import VALUE_LOSSES
from llmpred.spec.run import TaskSpec
from llmpred.tasks.base import ID, LEVELS, Calibration, Prediction, Task, continuation, mean
from llmpred.tasks.numeric import metrics, mixture, scale
from llmpred.tasks.numeric.numbers import NUM, numbers, replaced, written

if TYPE_CHECKING:
    import pyarrow as pa

TOKEN = 2  # a head's scores begin with log p(<NUM>) and its rank; what it says of the value follows


class Numeric(Task):
    """A text, and what comes directly after it: a number or something else.

    A row brings `text`, the `value` if a number is due, and what comes `next`: after the number if
    one is due, else after the text. `set` names a part of the evaluation that is told apart.

    An answer is whether a number is `due` (`<NUM>` is the most probable token; of a written text,
    it opens with a number), the `rank` and `probability` of `<NUM>`, the `value` and its
    `quantiles` at `LEVELS`; what a head does not say is absent.

    The primary metric, `within_tolerance`, is the share of rows that are answered right: a number
    that is due within 5 % of its value, none where none is due (relaxed accuracy, Methani et al.,
    2020, that texts without a number count too).
    """

    name = "numeric"
    fields = (
        ID,
        Field("set", "label", "id", required=False, aliases=("set", "kind", "category")),
        Field("text", "text", "input", aliases=("text", "prompt", "question", "context")),
        Field(
            "value", "number", "target", required=False, aliases=("value", "number", "answer", "y")
        ),
        Field("next", "text", "target", required=False, aliases=("next", "unit", "completion")),
    )
    long_field = "text"
    heads = ("numeric", "causal_lm")
    metric = "within_tolerance"
    measures = "number"
    prompts: ClassVar[Mapping[str, str]] = {"en": "{text}", "zh": "{text}"}
    max_new_tokens = 24

    def parse(self, row: Mapping[str, Any]) -> Example:
        """Return the row; of one that is to be learnt something must come after the text."""
        if "next" in row and "value" not in row and _opens_with_number(str(row["next"])):
            raise ValueError(
                f"`next` must not open with a number where none is due, but is {row['next']!r}"
            )
        return dict(row)

    def learn(self, spec: TaskSpec, train: pa.Table) -> tuple[TaskSpec, pa.Table, tuple[str, ...]]:
        """Settle the scale of the values from training rows; of an untouched base there is none."""
        if not train.num_rows:
            return spec.model_copy(update={"values": None}), train, ()
        silent = train.num_rows - _known(train, "value") - _known_alone(train)
        if silent:
            law = f"every training row needs `value` or `next`, but {silent} have neither"
            raise DataError(Problem(law, fix="Map these columns, or leave such rows out."))
        if spec.values is None:
            given = train["value"].drop_null().to_pylist() if _known(train, "value") else []
            if not given:
                law = "no training row has a `value`, so that there is nothing to be learnt of any"
                raise DataError(Problem(law, fix="Map the column of the numbers to `value`."))
            spec = spec.model_copy(update={"values": scale.learnt(given)})
        always = _known(train, "value") == train.num_rows
        note = "every training row has a number due, so a model learns that one always is"
        return spec, train, (note,) if always else ()

    def target(self, example: Example, spec: TaskSpec) -> str:
        """Return the number in digits, where one is due, and what follows."""
        number = written(float(example["value"])) if "value" in example else ""
        return self._taught(example, spec, number, str(example.get("next") or ""))

    def with_numbers(self, example: Example, spec: TaskSpec) -> tuple[str, tuple[float, ...]]:
        """Return what training teaches with `<NUM>` for its numbers, and their values."""
        following = replaced(str(example.get("next") or ""))
        values = tuple(number.value for number in following.numbers)
        due = (float(example["value"]),) if "value" in example else ()
        return self._taught(example, spec, NUM if due else "", following.text), due + values

    def _taught(self, example: Example, spec: TaskSpec, number: str, following: str) -> str:
        apart = spec.language != "zh" or _runs_on(example)
        parts = [part for part in (number, following) if part]
        return continuation((" " if apart else "").join(parts), spec)

    def gold(self, example: Example, spec: TaskSpec) -> dict[str, Any]:
        """Return the value, if a number is due, and the set, if it is of one."""
        found: dict[str, Any] = {name: example[name] for name in ("set",) if name in example}
        return {**found, "value": float(example["value"])} if "value" in example else found

    def read(self, text: str, spec: TaskSpec) -> dict[str, Any]:
        """Return the number that a written text opens with; if it opens otherwise, its first."""
        found = numbers(text.lstrip())
        if not found:
            return {"due": False}
        return {"due": found[0].start == 0, "value": found[0].value}

    def calibrate(
        self,
        spec: TaskSpec,
        loss: str | None,
        train: Sequence[Example],
        held_out: Callable[[], tuple[Sequence[Example], Sequence[Sequence[float]]]],
    ) -> Calibration | None:
        """Return the loss that says how scores are read; of a plain value how far it is off."""
        import numpy as np

        if loss not in VALUE_LOSSES:
            return None
        if loss not in ("mse", "log1p") or not len(train):
            return {"loss": loss}
        rows, scores = held_out()
        pairs = [(r["value"], s[TOKEN]) for r, s in zip(rows, scores, strict=True) if "value" in r]
        if not pairs:
            return {"loss": loss}
        values, outputs = np.array(pairs, float).T
        off = scale.taught(values, spec.values, loss) - outputs
        return {"loss": loss, "residuals": np.quantile(off, LEVELS).tolist()}

    def check_calibration(
        self, spec: TaskSpec, loss: str | None, calibration: Calibration | None
    ) -> None:
        """Refuse what `calibrate` would not have returned.

        Raises:
            ValueError: with the law that it breaks.
        """
        if loss not in VALUE_LOSSES:
            if calibration is not None:
                raise ValueError("a text that is written has none")
            return
        if calibration is None or calibration.get("loss") != loss:
            raise ValueError(f"it must be of loss `{loss}`")
        off = calibration.get("residuals")
        numeric = isinstance(off, list) and all(
            isinstance(x, int | float) and abs(x) <= scale.LARGEST for x in off
        )
        if off is not None and not (numeric and len(off) == len(LEVELS) and off == sorted(off)):
            raise ValueError(f"its residuals must be {len(LEVELS)} numbers in order")

    def answers(
        self,
        examples: Sequence[Example],
        spec: TaskSpec,
        scores: Sequence[Sequence[float]],
        calibration: Calibration | None,
    ) -> list[dict[str, Any]]:
        """Return whether a number is due after each text, and its value.

        Args:
            examples: what was asked.
            spec: the settled spec.
            scores: log p(<NUM>), its rank in the vocabulary from 1, and what the head says of the
                value: a mixture of `mixture.read`, a value, or quantiles.
            calibration: what `calibrate` returned.
        """
        import numpy as np

        if not scores:
            return []
        assert calibration is not None
        loss = calibration["loss"]
        heads = [row[TOKEN:] for row in scores]
        off = calibration.get("residuals")
        quantiles: Any = None
        if loss == "cauchy":
            best, quantiles = mixture.read(heads, LEVELS)
        elif loss == "pinball":
            quantiles = np.sort(np.array(heads, float), axis=1)
            best = quantiles[:, LEVELS.index(0.5)]
        else:
            best = np.array(heads, float)[:, 0]
            quantiles = None if off is None else best[:, None] + np.array(off, float)
        values = scale.said(best, spec.values, loss).tolist()
        spread = [None] * len(values)
        if quantiles is not None:
            spread = scale.said(quantiles, spec.values, loss).tolist()
        return [
            {
                "due": row[1] == 1,
                "rank": int(row[1]),
                "probability": float(np.nan_to_num(np.exp(row[0]))),
                "value": value,
                **({} if around is None else {"quantiles": around}),
            }
            for row, value, around in zip(scores, values, spread, strict=True)
        ]

    def primary(self, predictions: Sequence[Prediction], spec: TaskSpec) -> float:
        """Return the share of rows that are answered right."""
        return mean([float(metrics.right(p)) for p in predictions])

    def score(self, predictions: Sequence[Prediction], spec: TaskSpec) -> dict[str, float]:
        """Return all metrics, and the primary one of each set (`within_tolerance_SET`)."""
        if not predictions:
            law = "there are no predictions to score"
            raise DataError(Problem(law, fix="Evaluate at least one row."))
        sets = {
            f"{self.metric}_{name}": self.primary(rows, spec)
            for name, rows in metrics.sets_of(predictions).items()
        }
        return {**sets, **metrics.figures(predictions)}


def _runs_on(example: Example) -> bool:
    """Whether the number due would be read as another with `next` right after it: 3.5, 万元."""
    if "value" not in example:
        return False
    digits = written(float(example["value"]))
    found = numbers(digits + str(example.get("next") or ""))
    return not found or found[0].text != digits


def _opens_with_number(text: str) -> bool:
    found = numbers(text.lstrip())
    return bool(found) and found[0].start == 0


def _known(table: pa.Table, column: str) -> int:
    """Return how many rows have a value in a column."""
    if column not in table.column_names:
        return 0
    return int(table.num_rows - table[column].null_count)


def _known_alone(table: pa.Table) -> int:
    """Return how many rows have `next` and no `value`."""
    import pyarrow.compute as pc

    if "next" not in table.column_names:
        return 0
    there = pc.is_valid(table["next"])
    if "value" in table.column_names:
        there = pc.and_(there, pc.is_null(table["value"]))
    return int(pc.sum(there).as_py() or 0)
