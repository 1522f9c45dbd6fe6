"""What the machine below has to give, wherever that is asked: memory.

May import nothing of ours.
"""
