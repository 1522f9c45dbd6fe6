"""What networks are trained on: mixtures of known geometry, files, arrays.

May import `paper` and the packages inside of it, which import nothing of it.
"""
