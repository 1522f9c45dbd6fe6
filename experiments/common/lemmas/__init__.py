"""What the scripts of the lemmas, and others seed by seed, measure and claim.

May import `ossgd` and `experiments.common`.
"""
