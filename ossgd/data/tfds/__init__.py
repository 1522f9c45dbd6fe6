"""TensorFlow Datasets' folders and builders, without TensorFlow.

May import `machine`; TFDS itself, slow to import, when it is needed.
"""
