"""Training over several processes or machines with Ray Train."""
