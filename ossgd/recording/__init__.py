"""What is measured at every recorded step, and what a recorder has to be.

May import `paper`; engines measure what is described here.
"""
