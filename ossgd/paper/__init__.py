"""The paper's mathematics: arrays in, arrays out, nothing kept.

Imports no other package of ours.
"""
