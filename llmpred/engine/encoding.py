"""From examples to token ids: prompts, targets, candidates, truncation. No torch.

The prompt and what follows it are tokenised apart and joined, so that the border is the same in
training and in scoring, and the loss mask is exactly the target.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmpred.data.fields import Example
from llmpred.errors import DataError, Problem
from llmpred.spec.run import RunSpec, TaskSpec
from llmpred.tasks import prompts
from llmpred.tasks.base import Task
from llmpred.tasks.numeric.numbers import NUM, numbers, replaced

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Encoded:
    """One example as token ids.

    Attributes:
        prompt: ids that the model reads, special tokens included.
        target: ids that training teaches (none for a classifier, and none outside training).
        candidates: ids of each candidate, for label scoring.
        label: index of the right candidate or class; -1 if the task has none, and outside training.
        truncated: whether the long field, or a target to train on, lost tokens.
        weight: how much its loss counts.
        value: what a regression is taught of it.
        values: of each `<NUM>` of prompt and target, in order (head `numeric`).
    """

    prompt: list[int]
    target: list[int]
    candidates: tuple[list[int], ...] = ()
    label: int = -1
    truncated: bool = False
    weight: float = 1.0
    value: float = 0.0
    values: tuple[float, ...] = ()

    @property
    def length(self) -> int:
        """Tokens of prompt and target."""
        return len(self.prompt) + len(self.target)


def encode(
    examples: Iterable[Example],
    task: Task,
    spec: RunSpec,
    tokenizer: PreTrainedTokenizerBase,
    *,
    training: bool,
) -> list[Encoded]:
    """Tokenise examples for the head of `spec`, within `task.max_length` tokens.

    Label scoring leaves room for the longest candidate, generation for `max_new_tokens`; a target
    to train on may take half of the sequence, its end token included.

    Args:
        examples: what to tokenise; only `training` reads their targets.
        task: of the examples.
        spec: the settled run.
        tokenizer: of the base.
        training: to train on, rather than to be answered.

    Raises:
        DataError: when `truncation` is `error` and a sequence is too long, or when the prompt
            alone, without the long field, does not fit.
    """
    if training:
        return [_to_train(example, task, spec, tokenizer) for example in examples]
    return [_to_answer(example, task, spec, tokenizer) for example in examples]


def _to_answer(
    example: Example, task: Task, spec: RunSpec, tokenizer: PreTrainedTokenizerBase
) -> Encoded:
    """Tokenise what the model reads; the example's target is not looked at."""
    room = spec.task.max_length
    candidates: tuple[list[int], ...] = ()
    if spec.method.head == "label_scoring":
        texts = task.candidates(example, spec.task) or ()
        candidates = tuple(_continuation(text, spec.task, tokenizer) for text in texts)
        room -= max(map(len, candidates))
    elif spec.method.head == "causal_lm":
        assert spec.evaluation.max_new_tokens is not None  # settled
        room -= spec.evaluation.max_new_tokens
    prompt, values, truncated = _prompt(example, task, spec, tokenizer, room)
    return Encoded(prompt, [], candidates, truncated=truncated, values=values)


def _to_train(
    example: Example, task: Task, spec: RunSpec, tokenizer: PreTrainedTokenizerBase
) -> Encoded:
    if spec.method.head not in ("causal_lm", "numeric"):
        asked = _to_answer(example, task, spec, tokenizer)
        label = task.answer_index(example, spec.task)
        target = asked.candidates[label] if asked.candidates else []
        value = task.value(example, spec.task)
        return replace(asked, target=target, label=label, value=value)
    due: tuple[float, ...] = ()
    if spec.method.reads_numbers:
        text, due = task.with_numbers(example, spec.task)
    else:
        text = task.target(example, spec.task)
    whole = _continuation(text, spec.task, tokenizer)
    if isinstance(tokenizer.eos_token_id, int):
        whole = [*whole, tokenizer.eos_token_id]
    target = whole[: spec.task.max_length // 2]
    if len(target) < len(whole) and spec.task.truncation == "error":
        law = (
            f"a target may take half of {spec.task.max_length} tokens, but this one has "
            f"{len(whole)}: {text[:60]!r}"
        )
        raise DataError(_too_long(law))
    room = spec.task.max_length - len(target)
    prompt, values, truncated = _prompt(example, task, spec, tokenizer, room)
    kept = due[: target.count(tokenizer.convert_tokens_to_ids(NUM))] if due else ()
    return Encoded(
        prompt,
        target,
        truncated=truncated or len(target) < len(whole),
        values=(*values, *kept),
    )


def _prompt(
    example: Example,
    task: Task,
    run: RunSpec,
    tokenizer: PreTrainedTokenizerBase,
    room: int,
) -> tuple[list[int], tuple[float, ...], bool]:
    """Tokenise the prompt of an example into at most `room` tokens.

    Only the task's long field is cut, so the question at the prompt's end always survives.

    Returns:
        The ids, the values of each `<NUM>` in them, and whether anything was cut.
    """
    spec = run.task
    slots = task.slots(example, spec)
    ids, values = _prompt_ids(slots, run, tokenizer)
    if len(ids) <= room:
        return ids, values, False
    text = slots[task.long_field]
    if spec.truncation == "error":
        law = (
            f"a sequence must fit in {spec.max_length} tokens, {room} of them for the prompt, but "
            f"this prompt has {len(ids)}: {text[:60]!r}"
        )
        raise DataError(_too_long(law))
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)[
        "offset_mapping"
    ]
    keep = len(offsets)
    while len(ids) > room:
        keep -= len(ids) - room
        if keep <= 0:
            raise DataError(
                Problem(
                    f"the prompt without `{task.long_field}` must fit in {room} of the "
                    f"{spec.max_length} tokens, but it does not",
                    fix="Raise task.max_length or shorten task.prompt.",
                )
            )
        start, end = (
            (0, offsets[keep - 1][1])
            if spec.truncation == "end"
            else (offsets[-keep][0], len(text))
        )
        if run.method.reads_numbers:
            start, end = _between_numbers(text, start, end)
        ids, values = _prompt_ids({**slots, task.long_field: text[start:end]}, run, tokenizer)
    return ids, values, True


def _between_numbers(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the ends of a part of a text, inside of no number: half of one is another number."""
    for number in numbers(text):
        if number.start < start < number.end:
            start = number.end
        if number.start < end < number.end:
            end = number.start
    return start, end


def _too_long(law: str) -> Problem:
    fix = "Raise task.max_length, or set task.truncation to end or start."
    return Problem(law, "task.truncation is `error`", fix)


def render_prompt(
    slots: dict[str, str], spec: TaskSpec, tokenizer: PreTrainedTokenizerBase | None
) -> tuple[str, bool]:
    """Fill the prompt's braces; wrap it in the chat template if `chat_template` says so.

    Returns:
        The text, and whether a chat template made it (then it carries its own special tokens).
    """
    assert spec.prompt is not None  # settled
    return _wrapped(prompts.render(spec.prompt, slots), spec, tokenizer)


def _wrapped(
    text: str, spec: TaskSpec, tokenizer: PreTrainedTokenizerBase | None
) -> tuple[str, bool]:
    if spec.chat_template == "auto" and tokenizer is not None and tokenizer.chat_template:
        wrapped = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
        )
        return str(wrapped), True
    return text, False


def _prompt_ids(
    slots: dict[str, str], run: RunSpec, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], tuple[float, ...]]:
    """Return the ids of a prompt, and the values of each `<NUM>` in them."""
    assert run.task.prompt is not None  # settled
    text = prompts.render(run.task.prompt, slots)
    values: tuple[float, ...] = ()
    if run.method.reads_numbers:
        found = replaced(text)
        text, values = found.text, tuple(number.value for number in found.numbers)
    text, wrapped = _wrapped(text, run.task, tokenizer)
    ids: list[int] = tokenizer(text, add_special_tokens=not wrapped, verbose=False)["input_ids"]
    token = tokenizer.convert_tokens_to_ids(NUM) if run.method.reads_numbers else None
    if token is not None and ids.count(token) != len(values):
        law = f"a prompt must have a value for each {NUM}, but the chat template has one of its own"
        raise DataError(Problem(law, "task.chat_template", "Set it to off."))
    continued = not run.method.has_head
    if continued and not wrapped and ids[-1:] == [tokenizer.eos_token_id]:
        ids.pop()  # some tokenizers close their input; what is to be continued must stay open
    if not ids:  # an empty text: what a document begins with, as something must be read
        first = (tokenizer.bos_token_id, tokenizer.eos_token_id)
        ids = [token for token in first if isinstance(token, int)][:1]
    return ids, values


def _continuation(text: str, spec: TaskSpec, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    if spec.chat_template == "auto" and tokenizer.chat_template:
        text = text.lstrip(" ")  # an assistant's turn opens without a space
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if not ids:
        raise DataError(Problem(f"a target must have at least one token, but {text!r} has none"))
    return ids
