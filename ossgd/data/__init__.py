"""What networks are trained on: mixtures of known geometry, files, arrays.

May import `paper`; `data.tfds` inside of it imports nothing of ours.
"""
