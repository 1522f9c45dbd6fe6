"""What the scripts of the lemmas measure, in the span of the data.

May import `ossgd` and `experiments.common`.
"""
