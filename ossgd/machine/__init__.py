"""The machine below, wherever it is asked about: memory, time, threads, hosts,
files that outlive a crash.

May import nothing of ours.
"""
