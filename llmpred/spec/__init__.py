"""What a run is, how many of them a search space stands for, and their identity."""
