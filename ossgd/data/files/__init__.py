"""A user's files: what their names and first bytes say, and tables in them.

May import `machine`.
"""
