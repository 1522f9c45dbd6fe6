"""The machine below, wherever it is asked about: memory, time, threads, hosts.

May import nothing of ours.
"""
