"""Tasks: examples in, prompts and targets and candidates out, predictions scored."""
