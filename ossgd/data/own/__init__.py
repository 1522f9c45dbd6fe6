"""What people hold data in, as NumPy arrays: containers, values, labels.

May import `machine`.
"""
