"""The machine below: memory, time, threads, hosts, sources, files.

May import nothing of ours.
"""
