"""Wide networks in few bytes: what is kept, drawn and stepped through in parts.

May import `paper`; engines keep and draw what is described here.
"""
