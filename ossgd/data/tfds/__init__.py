"""TensorFlow Datasets' folders and builders, without TensorFlow.

Imports nothing of ours; TFDS itself, slow to import, when it is needed.
"""
