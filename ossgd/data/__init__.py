"""What networks are trained on: mixtures of known geometry, files, arrays.

May import `paper`.
"""
