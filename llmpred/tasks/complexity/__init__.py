"""How long a reasoning model will think about a prompt."""
