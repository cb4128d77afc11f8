"""What is trained on top of a base: adapters and heads."""
