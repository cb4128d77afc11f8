"""The meta-model: from a table of finished runs to the score of runs nobody has paid for."""
