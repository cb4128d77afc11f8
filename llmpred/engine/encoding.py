"""From examples to token ids: prompts, targets, candidates, truncation. No torch.

The prompt and what follows it are tokenised apart and joined, so that the border is the same in
training and in scoring, and the loss mask is exactly the target.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from llmpred.data.fields import Example
from llmpred.errors import DataError, Problem
from llmpred.spec.run import RunSpec, TaskSpec
from llmpred.tasks import prompts
from llmpred.tasks.base import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROWS = 1000  # examples that become Python objects at a time


@dataclass(frozen=True)
class Encoded:
    """One example as token ids.

    Attributes:
        prompt: ids that the model reads, special tokens included.
        target: ids that training teaches (empty for a classifier).
        candidates: ids of each candidate, for label scoring.
        label: index of the right candidate or class; -1 if the task has none.
        truncated: whether the long field lost tokens.
    """

    prompt: list[int]
    target: list[int]
    candidates: tuple[list[int], ...] = ()
    label: int = -1
    truncated: bool = False


def rows(table: pa.Table) -> Iterator[Example]:
    """Yield the examples of a table, a slice at a time, without the fields that are null."""
    for start in range(0, table.num_rows, ROWS):
        for row in table.slice(start, ROWS).to_pylist():
            yield {name: value for name, value in row.items() if value is not None}


def encode(
    examples: Sequence[Example],
    task: Task,
    spec: RunSpec,
    tokenizer: PreTrainedTokenizerBase,
    *,
    training: bool,
) -> list[Encoded]:
    """Tokenise examples for the head of `spec`, within `task.max_length` tokens.

    Raises:
        DataError: when `truncation` is `error` and a sequence is too long, or when the prompt
            alone, without the long field, does not fit.
    """
    head = spec.method.head
    encoded = []
    for example in examples:
        target: list[int] = []
        candidates: tuple[list[int], ...] = ()
        label = -1
        room = spec.task.max_length
        if head == "classifier":
            label = task.answer_index(example, spec.task)
        elif head == "label_scoring":
            texts = task.candidates(example, spec.task) or ()
            candidates = tuple(_continuation(text, spec.task, tokenizer) for text in texts)
            label = task.answer_index(example, spec.task)
            target = candidates[label]
            room -= max(len(ids) for ids in candidates)
        else:
            target = _continuation(task.target(example, spec.task), spec.task, tokenizer)
            if tokenizer.eos_token_id is not None:
                target = [*target, tokenizer.eos_token_id]
            target = target[: spec.task.max_length // 2]
            room -= len(target) if training else spec.evaluation.max_new_tokens or len(target)
        prompt, truncated = encode_prompt(example, task, spec.task, tokenizer, room)
        encoded.append(Encoded(prompt, target, candidates, label, truncated))
    return encoded


def encode_prompt(
    example: Example,
    task: Task,
    spec: TaskSpec,
    tokenizer: PreTrainedTokenizerBase,
    room: int,
) -> tuple[list[int], bool]:
    """Tokenise the prompt of an example into at most `room` tokens.

    Only the task's long field is cut, so the question at the prompt's end always survives.

    Returns:
        The ids, and whether anything was cut.
    """
    slots = task.slots(example, spec)
    ids = _prompt_ids(slots, spec, tokenizer)
    if len(ids) <= room:
        return ids, False
    if spec.truncation == "error":
        raise DataError(
            Problem(
                f"a sequence must fit in {spec.max_length} tokens, but this prompt has {len(ids)}"
                f": {slots[task.long_field][:60]!r}",
                where="task.truncation is `error`",
                fix="Raise task.max_length, or set task.truncation to end or start.",
            )
        )
    text = slots[task.long_field]
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)[
        "offset_mapping"
    ]
    keep = len(offsets)
    while len(ids) > room:
        keep -= len(ids) - room
        if keep <= 0:
            raise DataError(
                Problem(
                    f"the prompt without `{task.long_field}` must fit in {room} tokens, but it "
                    "does not",
                    fix="Raise task.max_length or shorten task.prompt.",
                )
            )
        cut = text[: offsets[keep - 1][1]] if spec.truncation == "end" else text[offsets[-keep][0] :]
        ids = _prompt_ids({**slots, task.long_field: cut}, spec, tokenizer)
    return ids, True


def render_prompt(
    slots: dict[str, str], spec: TaskSpec, tokenizer: PreTrainedTokenizerBase | None
) -> tuple[str, bool]:
    """Fill the prompt's braces; wrap it in the chat template if `chat_template` says so.

    Returns:
        The text, and whether a chat template made it (then it carries its own special tokens).
    """
    assert spec.prompt is not None  # settled
    text = prompts.render(spec.prompt, slots)
    if spec.chat_template == "auto" and tokenizer is not None and tokenizer.chat_template:
        wrapped = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
        )
        return str(wrapped), True
    return text, False


def _prompt_ids(
    slots: dict[str, str], spec: TaskSpec, tokenizer: PreTrainedTokenizerBase
) -> list[int]:
    text, wrapped = render_prompt(slots, spec, tokenizer)
    ids: list[int] = tokenizer(text, add_special_tokens=not wrapped, verbose=False)["input_ids"]
    return ids


def _continuation(text: str, spec: TaskSpec, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    if spec.chat_template == "auto" and tokenizer.chat_template:
        text = text.lstrip(" ")  # an assistant's turn opens without a space
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not ids:
        raise DataError(
            Problem(f"a target must have at least one token, but {text!r} has none")
        )
    return ids
