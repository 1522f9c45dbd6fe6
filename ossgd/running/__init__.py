"""Jobs at work: which there are, in which groups and order, on which devices.

May import `paper`, `data` and `engines`; here is the edge where `jit` lives.
"""
