"""Base models: which there are, where they lie, how they are loaded; and `resolve(spec)`."""
