"""The machine below, wherever it is asked about: its memory, and its time.

May import nothing of ours.
"""
