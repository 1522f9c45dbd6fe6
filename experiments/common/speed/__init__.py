"""What the benchmark compares with: other programs, and the machine's limits.

May import `ossgd`.
"""
