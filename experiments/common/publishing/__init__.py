"""Run folders read back, judged again, and made into pages.

May import `ossgd` and `experiments.common`.
"""
