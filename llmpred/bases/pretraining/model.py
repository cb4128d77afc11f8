"""The proxy's architecture, and how it is written to a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

# Llama with grouped queries and tied embeddings: 3.15 million weights at a vocabulary of 6,144.
SHAPE: dict[str, Any] = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 5,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}


def build(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """Return an untrained model for a tokenizer; equal seeds give equal weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=False,
        **SHAPE,
    )
    model: LlamaForCausalLM = LlamaForCausalLM(config)
    return model


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write model (in bfloat16) and tokenizer so that plain `from_pretrained` loads them."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    model.config.use_cache = True
    model.generation_config.use_cache = True
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
