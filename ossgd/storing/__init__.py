"""What is on disk: whose it is, whether it is whole, and whether it is today's.

May import `running` and what that may.
"""
