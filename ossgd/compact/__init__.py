"""Arrays of wide networks in fewer bytes, with the same numbers.

May import `paper`; engines keep and draw what is described here.
"""
