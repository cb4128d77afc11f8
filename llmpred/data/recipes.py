"""Recipes: one real source yields many datasets of known quality.

Every step draws from its own generator, seeded by the recipe's seed and the step's place in the
list; the draws and the order of the rows are the same on every machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from llmpred.data.fields import Field
from llmpred.data.seeds import Indices, below, draw, generator, permutation
from llmpred.data.text import UNIT, language
from llmpred.errors import DataError, Problem
from llmpred.spec.run import Balance, Mix, RecipeStep, SourceSpec, Subsample

if TYPE_CHECKING:
    import pyarrow as pa

LoadPart = Callable[[SourceSpec], "pa.Table"]
WORDS_AN_EDIT = 10  # a near-duplicate differs in one word of ten,
CHARACTERS_AN_EDIT = 20  # or in one Chinese character of twenty


def apply_recipe(
    table: pa.Table,
    steps: tuple[RecipeStep, ...],
    fields: tuple[Field, ...],
    *,
    seed: int,
    load_part: LoadPart,
) -> pa.Table:
    """Apply the steps of a recipe in order.

    Args:
        table: examples, as `load` returns them.
        steps: of the recipe.
        fields: of an example; steps change inputs or targets by their roles.
        seed: of the recipe.
        load_part: loads a further source of a mixture into a table of the same fields.

    Raises:
        DataError: if a step cannot be applied to these rows; names its place in the recipe.
    """
    for place, step in enumerate(steps):
        # By value: a step read back from a record has all its keys, the others null.
        name, what = next((name, value) for name, value in step if value is not None)
        rng = generator("recipe", seed, place)
        if not table.num_rows:
            law = "a recipe needs rows to work on, but there are none left"
            raise DataError(Problem(law, f"recipe[{place}]"))
        try:
            if name == "mix":
                table = _mix(table, what, load_part, rng)
            else:
                table = STEPS[name](table, what, fields, rng)
        except ValueError as law:
            raise DataError(Problem(str(law), f"recipe[{place}].{name}")) from law
    return table


def _subsample(
    table: pa.Table, what: Subsample, fields: tuple[Field, ...], rng: np.random.Generator
) -> pa.Table:
    """Keep rows drawn without replacement, in their order."""
    rows = table.num_rows
    count = what.n if what.n is not None else max(1, round((what.share or 0.0) * rows))
    if count > rows:
        raise ValueError(f"`n` must be at most the number of rows, {rows:,}, but got {count:,}")
    return table.take(draw(rng, rows, count))


def _label_noise(
    table: pa.Table, what: Any, fields: tuple[Field, ...], rng: np.random.Generator
) -> pa.Table:
    """Make a share of the targets wrong.

    A label becomes another label, an index another choice, each uniformly; a text becomes the text
    of another of the drawn rows.
    """
    import pyarrow as pa

    rows = draw(rng, table.num_rows, round(what.share * table.num_rows))
    for name in _targets(table, fields):
        column = table[name]
        if pa.types.is_integer(column.type):
            values = column.to_pylist()
            sizes = _choices(table, fields)
            for row in rows:
                if sizes[row] < 2:
                    law = "`label_noise` needs two choices in every row"
                    raise ValueError(f"{law}, but row {row + 1} has {sizes[row]}")
                values[row] = _other(rng, values[row], range(sizes[row]))
            table = _replace(table, name, values)
        elif _kind(name, fields) == "label":
            values = column.to_pylist()
            labels = sorted(set(values))
            if len(labels) < 2:
                raise ValueError(f"`label_noise` needs two labels, but there is only {labels}")
            for row in rows:
                values[row] = _other(rng, values[row], labels)
            table = _replace(table, name, values)
        else:
            table = _moved(table, [name], rows, rng)
    return table


def _other(rng: np.random.Generator, value: Any, values: Sequence[Any]) -> Any:
    others = [other for other in values if other != value]
    return others[below(rng, len(others))]


def _duplicate(
    table: pa.Table, what: Any, fields: tuple[Field, ...], rng: np.random.Generator
) -> pa.Table:
    """Append copies of a share of the rows."""
    import pyarrow as pa

    rows = draw(rng, table.num_rows, round(what.share * table.num_rows))
    return pa.concat_tables([table, table.take(rows)])


def _near_duplicate(
    table: pa.Table, what: Any, fields: tuple[Field, ...], rng: np.random.Generator
) -> pa.Table:
    """Append lightly edited copies of a share of the rows; answers stay findable in the text."""
    import pyarrow as pa

    copies = table.take(draw(rng, table.num_rows, round(what.share * table.num_rows)))
    texts = _text_inputs(table, fields)
    targets = [copies[name].to_pylist() for name in _targets(table, fields)]
    answers = [_strings(row) for row in zip(*targets, strict=True)] or [[]] * copies.num_rows
    for name in texts:
        edited = [
            text if text is None else _edited(text, kept, rng)
            for text, kept in zip(copies[name].to_pylist(), answers, strict=True)
        ]
        copies = _replace(copies, name, edited)
    return pa.concat_tables([table, copies])


def _strings(row: Sequence[Any]) -> list[str]:
    flat = [item for value in row for item in (value if isinstance(value, list) else [value])]
    return [item for item in flat if isinstance(item, str)]


def _edited(text: str, kept: Sequence[str], rng: np.random.Generator) -> str:
    """Drop a word, or swap it with the next, once in every ten words (twenty characters)."""
    chinese = language([text]) == "zh"
    units = list(text) if chinese else re.findall(r"\s*\S+\s*", text)
    kept = [answer for answer in kept if answer in text]
    for _ in range(max(1, len(units) // (CHARACTERS_AN_EDIT if chinese else WORDS_AN_EDIT))):
        at = below(rng, len(units))
        trial = units[:at] + units[at + 1 :]
        if rng.random() < 0.5 and at + 1 < len(units):
            trial = [*units[:at], units[at + 1], units[at], *units[at + 2 :]]
            if not chinese:
                trial[at : at + 2] = _respaced(units[at : at + 2])
        if "".join(trial).strip() and all(answer in "".join(trial) for answer in kept):
            units = trial
    return "".join(units)


def _respaced(pair: list[str]) -> list[str]:
    """Swap two words and leave the white space around them where it is."""
    (first, second) = (word.strip() for word in pair)
    return [pair[0].replace(first, second, 1), pair[1].replace(second, first, 1)]


def _truncate(
    table: pa.Table, what: Any, fields: tuple[Field, ...], rng: np.random.Generator
) -> pa.Table:
    """Cut every text input after so many words; a Chinese character counts as a word."""
    for name in _text_inputs(table, fields):
        table = _replace(table, name, [_cut(text, what.words) for text in table[name].to_pylist()])
    return table


def _cut(text: str | None, words: int) -> str | None:
    if text is None:
        return None
    for count, unit in enumerate(UNIT.finditer(text), 1):
        if count == words:
            return text[: unit.end()]
    return text


def _shuffle_answers(
    table: pa.Table, what: Any, fields: tuple[Field, ...], rng: np.random.Generator
) -> pa.Table:
    """Give each of a share of the rows the whole target of another of them.

    The balance of the targets stays; what breaks is their relation to the inputs.
    """
    rows = draw(rng, table.num_rows, round(what.share * table.num_rows))
    return _moved(table, _targets(table, fields), rows, rng, fields)


def _moved(
    table: pa.Table,
    names: Sequence[str],
    rows: Indices,
    rng: np.random.Generator,
    fields: tuple[Field, ...] = (),
) -> pa.Table:
    """Move values among `rows` in one random cycle, so that none keeps its own."""
    import pyarrow as pa

    order = rows[permutation(rng, len(rows))]
    source = np.arange(table.num_rows)
    source[order] = np.roll(order, 1)
    for name in names:
        column = table[name].take(pa.array(source))
        if pa.types.is_integer(column.type):  # an answer's place must exist among the new choices
            sizes = _choices(table, fields)
            column = [index % size for index, size in zip(column.to_pylist(), sizes, strict=True)]
        table = _replace(table, name, column)
    return table


def _mix(table: pa.Table, what: Mix, load_part: LoadPart, rng: np.random.Generator) -> pa.Table:
    """Draw from this table (weight 1) and the others by weight, in random order."""
    import pyarrow as pa

    tables = [table, *(load_part(part).select(table.column_names) for part in what.sources)]
    weights = np.array([1.0, *(part.weight for part in what.sources)])
    shares = weights / weights.sum()
    most = int(min(t.num_rows / share for t, share in zip(tables, shares, strict=True)) + 1e-9)
    total = what.n if what.n is not None else most
    if total > most:
        law = f"`n` must be at most {most:,}, all that the weights allow with these sources"
        raise ValueError(f"{law}, but got {total:,}")
    # Largest remainders: whole rows that add up to the total.
    exact = shares * total
    counts = np.floor(exact).astype(int)
    for place in np.argsort(counts - exact, kind="stable")[: total - counts.sum()]:
        counts[place] += 1
    drawn = [
        part.take(draw(rng, part.num_rows, int(count))).cast(table.schema)
        for part, count in zip(tables, counts, strict=True)
    ]
    mixed = pa.concat_tables(drawn)
    return mixed.take(permutation(rng, mixed.num_rows))


# --- fields of a table -----------------------------------------------------------------------


def _targets(table: pa.Table, fields: tuple[Field, ...]) -> list[str]:
    return [f.name for f in fields if f.role == "target" and f.name in table.column_names]


def _text_inputs(table: pa.Table, fields: tuple[Field, ...]) -> list[str]:
    names = table.column_names
    return [f.name for f in fields if f.role == "input" and f.kind == "text" and f.name in names]


def _kind(name: str, fields: tuple[Field, ...]) -> str:
    return next(field.kind for field in fields if field.name == name)


def _choices(table: pa.Table, fields: tuple[Field, ...]) -> list[int]:
    """Return how many choices each row has."""
    import pyarrow.compute as pc

    for field in fields:
        if field.role == "input" and field.kind == "texts" and field.name in table.column_names:
            sizes: list[int] = pc.list_value_length(table[field.name]).to_pylist()
            return sizes
    raise ValueError("a target that is an index needs a field of choices, but there is none")


def _replace(table: pa.Table, name: str, values: Any) -> pa.Table:
    """Return the table with other values in one column; type and role stay."""
    import pyarrow as pa

    place = table.schema.get_field_index(name)
    field = table.schema.field(place)
    column = values if isinstance(values, pa.ChunkedArray) else pa.array(values, field.type)
    return table.set_column(place, field, column)


def _balance(
    table: pa.Table, what: Balance, fields: tuple[Field, ...], rng: np.random.Generator
) -> pa.Table:
    """Give all labels as many rows: those of the rarest, drawn; or of the commonest, repeated.

    Rows that are repeated stand at the end, each as often as the others of its label, give or take
    one.
    """
    names = [name for name in _targets(table, fields) if _kind(name, fields) == "label"]
    if len(names) != 1:
        raise ValueError("`balance` needs a label, but the target of this task is none")
    places: dict[Any, list[int]] = {}
    for row, label in enumerate(table[names[0]].to_pylist()):
        places.setdefault(label, []).append(row)
    counts = [len(rows) for rows in places.values()]
    kept: list[int] = []
    more: list[int] = []
    for _, rows in sorted(places.items()):
        if what.by == "undersample":
            kept += [rows[i] for i in draw(rng, len(rows), min(counts))]
            continue
        times, rest = divmod(max(counts) - len(rows), len(rows))
        more += rows * times + [rows[i] for i in draw(rng, len(rows), rest)]
    return table.take(sorted(kept) if kept else [*range(table.num_rows), *more])


STEPS: dict[str, Callable[..., Any]] = {
    "subsample": _subsample,
    "label_noise": _label_noise,
    "duplicate": _duplicate,
    "near_duplicate": _near_duplicate,
    "truncate": _truncate,
    "shuffle_answers": _shuffle_answers,
    "balance": _balance,
}
