"""Pretrain a small causal language model from text: corpora, tokenizer, packing, training, card.

Pure functions of their arguments; what schedules them on machines is `llmpred.distributed`.
"""
