"""How a run is trained and measured: three ways to the same numbers.

May import `paper` and `data`.
"""
