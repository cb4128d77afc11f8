"""Load a located base into memory. Safetensors only; no code from the model's folder ever runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from llmpred.bases.locate import Located
from llmpred.errors import BaseError, Problem
from llmpred.tasks.numeric.numbers import NUM

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TRUSTED: dict[str, Any] = {"trust_remote_code": False, "use_safetensors": True}
HEADS = ("lm_head", "classifier", "score")  # what a model's head is called


def load_tokenizer(base: Located, *, numbers: bool = False) -> PreTrainedTokenizerBase:
    """Load the tokenizer, with a padding token and padding on the left.

    Left padding puts every target at the end of its row, so that a forward pass needs the language
    model head on the last few positions only.

    Args:
        base: whose tokenizer.
        numbers: add the token `<NUM>`. It takes the white space before it in, as a word does in
            most vocabularies, so that it is predicted right after the word before.
    """
    from transformers import AddedToken, AutoTokenizer

    _hush()
    tokenizer = AutoTokenizer.from_pretrained(
        base.path, revision=base.revision, trust_remote_code=False
    )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token_id is None:
        raise BaseError(Problem(f"the tokenizer of {base.name} has no token to pad with"))
    tokenizer.padding_side = "left" if base.kind == "causal" else "right"
    if numbers:
        tokenizer.add_tokens([AddedToken(NUM, lstrip=True, rstrip=False, normalized=False)])
    return tokenizer


def load_model(
    base: Located,
    *,
    classes: int | None,
    quantization: Literal["none", "nf4", "int8"],
    dtype: torch.dtype,
    device: torch.device,
    pad_token_id: int,
    number_token: int | None = None,
) -> PreTrainedModel:
    """Load the model: with a language-model head, or a classification head of `classes` outputs.

    New head weights are drawn from torch's generator; seed it first.

    Args:
        base: what to load.
        classes: outputs of a classification head; None for the language-model head.
        quantization: `nf4` is 4-bit NormalFloat with double quantisation (Dettmers et al., 2023),
            `int8` is LLM.int8().
        dtype: of the weights, or of the computation if quantised.
        device: where to put it.
        pad_token_id: for classification heads, which look for the last real token.
        number_token: id of `<NUM>`, for a model that reads and says numbers.

    Raises:
        BaseError: when the quantisation library is missing.
    """
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        BitsAndBytesConfig,
        GenerationConfig,
    )

    _hush()
    options: dict[str, Any] = {"dtype": dtype, "revision": base.revision, **TRUSTED}
    if quantization != "none":
        try:
            import bitsandbytes  # noqa: F401
        except ImportError as error:
            raise BaseError(
                Problem(
                    f"quantization `{quantization}` needs bitsandbytes, which is not installed "
                    "(Linux and Windows only)",
                    fix="Install it, or set base.quantization to none.",
                )
            ) from error
        keep = {
            "llm_int8_skip_modules": list(HEADS)
        }  # heads are not quantised, they may be trained
        options["quantization_config"] = (
            BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=dtype,
                bnb_4bit_quant_storage=dtype,
                **keep,
            )
            if quantization == "nf4"
            else BitsAndBytesConfig(load_in_8bit=True, **keep)
        )
        options["device_map"] = {"": device}
    if classes is None:
        model = AutoModelForCausalLM.from_pretrained(base.path, **options)
        # What a base brings (a repetition penalty, say) would fill what evaluation leaves open.
        model.generation_config = GenerationConfig()
    else:
        model = AutoModelForSequenceClassification.from_pretrained(
            base.path,
            num_labels=classes,
            pad_token_id=pad_token_id,
            ignore_mismatched_sizes=True,  # a head that the base brings is not the one wanted
            **options,
        )
    if quantization == "none":
        model = model.to(device)
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # Otherwise bitsandbytes repacks weights at the first evaluation on such a CPU, and not
            # exactly: the next run on this base would be another.
            module.support_avx512bf16_for_cpu = False
    model.config.use_cache = False
    if number_token is not None:
        _make_room(model, number_token)
    return model.eval()


def _make_room(model: PreTrainedModel, token: int) -> None:
    """Give a model rows for the token `<NUM>`: the mean of all others, so that no word is nearer.

    `config.number_token` is its id.
    """
    import torch

    tables: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    if token >= tables[0].weight.shape[0]:
        model.resize_token_embeddings(token + 1, mean_resizing=False)
        tables = [model.get_input_embeddings(), model.get_output_embeddings()]
    with torch.no_grad():
        for table in {id(table.weight): table for table in tables}.values():
            others = torch.arange(len(table.weight), device=table.weight.device) != token
            table.weight[token] = table.weight[others].float().mean(0).to(table.weight.dtype)
    model.config.number_token = token


def _hush() -> None:
    """Keep progress bars, load reports and notes on optional kernels out of a sweep's log.

    PEFT asks models for a property that transformers deprecates: nothing that a user could mend.
    """
    import logging
    import warnings

    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
