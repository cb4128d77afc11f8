"""Rows whose task data is nested: SQuAD articles, chat messages, Alpaca instructions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeGuard

from llmpred.data.rows import Row, show

# ShareGPT's names for the roles of a chat.
ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant"}

Shape = Callable[[Row], Iterator[Row]]


def shape_of(format: str, rows: Sequence[Row]) -> Shape:
    """Return how rows are unfolded: as the format says, or as the first rows look for `auto`.

    Args:
        format: `squad`, `messages` or `alpaca`; anything else decides by the rows, except that
            an explicitly named container (`csv`, …) is taken as it is.
        rows: the first rows.
    """
    if format in SHAPES:
        return SHAPES[format]
    first = next((row.values for row in rows if not row.problem), {})
    if isinstance(first.get("paragraphs"), list):
        return squad
    if any(_is_chat(first.get(name)) for name in ("messages", "conversations")):
        return messages
    if {"instruction", "output"} <= first.keys() and not {"prompt", "response"} & first.keys():
        return alpaca
    return plain


def plain(row: Row) -> Iterator[Row]:
    """Yield the row itself."""
    yield row


def squad(row: Row) -> Iterator[Row]:
    """Yield a row a question of a SQuAD article: id, title, context, question, answers.

    Answers are the distinct accepted texts, in order; none for an unanswerable question.
    """
    paragraphs = row.values.get("paragraphs")
    if not isinstance(paragraphs, list):
        yield Row(row.where, {}, "an article must have a list of `paragraphs` (SQuAD)")
        return
    title = row.values.get("title")
    for p, paragraph in enumerate(paragraphs):
        place = f"{row.where}, paragraphs[{p}]"
        questions = paragraph.get("qas") if isinstance(paragraph, dict) else None
        if not isinstance(questions, list):
            yield Row(place, {}, "a paragraph must have a list of questions, `qas` (SQuAD)")
            continue
        for q, question in enumerate(questions):
            yield _question(title, paragraph, question, f"{place}.qas[{q}]")


def _question(title: Any, paragraph: dict[str, Any], question: Any, where: str) -> Row:
    try:
        answers = [str(answer["text"]) for answer in question.get("answers") or []]
        values = {
            "id": question.get("id"),
            "title": title,
            "context": paragraph.get("context"),
            "question": question.get("question"),
            "answers": list(dict.fromkeys(answers)),
        }
    except (AttributeError, KeyError, TypeError):
        law = f"a question must be an object whose `answers` have `text`, but got {show(question)}"
        return Row(where, {}, law)
    return Row(where, {k: v for k, v in values.items() if v is not None})


def messages(row: Row) -> Iterator[Row]:
    """Yield the row with its chat as `prompt`, `response` and, if there is one, `system`.

    The response is the last message; the prompt is what the user said before it. Of a longer chat
    the prompt holds all earlier turns, each headed by its role.
    """
    chat = row.values.get("messages", row.values.get("conversations"))
    if not _is_chat(chat):
        law = "`messages` must be a list of objects with `role` and `content`"
        yield Row(row.where, {}, f"{law}, but got {show(chat)}")
        return
    turns = [_turn(message) for message in chat]
    system = "\n".join(said for role, said in turns if role == "system" and said)
    turns = [turn for turn in turns if turn[0] != "system"]
    roles = [role for role, _ in turns]
    if any(said is None for _, said in turns):
        yield Row(row.where, {}, "a message must have text as its `content`")
    elif len(turns) < 2 or roles[-1] != "assistant" or "user" not in roles[:-1]:
        law = "a chat must have a user's message and end with the assistant's"
        yield Row(row.where, {}, f"{law}, but its roles are {show(roles)}")
    else:
        *earlier, (_, response) = turns
        alone = len(earlier) == 1
        prompt = "\n\n".join(str(said) if alone else f"{role}: {said}" for role, said in earlier)
        chatted = {"prompt": prompt, "response": response}
        yield Row(row.where, {**row.values, **chatted, **({"system": system} if system else {})})


def _is_chat(value: Any) -> TypeGuard[list[dict[str, Any]]]:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(m, dict) and ("role" in m or "from" in m) for m in value)
    )


def _turn(message: dict[str, Any]) -> tuple[str, str | None]:
    """Return who speaks in a message, and what is said; None if it is not text."""
    role = str(message.get("role", message.get("from")))
    return ROLES.get(role, role), _said(message.get("content", message.get("value")))


def _said(content: Any) -> str | None:
    """Return the text of a message; a list of text parts is joined."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [p.get("text") for p in content if isinstance(p, dict) and p.get("type") == "text"]
        if parts and len(parts) == len(content) and all(isinstance(p, str) for p in parts):
            return "\n".join(str(p) for p in parts)
    return None


def alpaca(row: Row) -> Iterator[Row]:
    """Yield the row with `prompt` (instruction, then input) and `response` beside its columns."""
    instruction, given = row.values.get("instruction"), row.values.get("input")
    if not isinstance(instruction, str) or not isinstance(row.values.get("output"), str):
        yield Row(row.where, {}, "a row must have the texts `instruction` and `output` (Alpaca)")
        return
    prompt = (
        f"{instruction}\n\n{given}" if isinstance(given, str) and given.strip() else instruction
    )
    yield Row(row.where, {**row.values, "prompt": prompt, "response": row.values["output"]})


SHAPES: dict[str, Shape] = {"squad": squad, "messages": messages, "alpaca": alpaca}
