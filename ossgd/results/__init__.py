"""What results say: intervals, verdicts, tables, figures.

May import `paper`, and reads Datasets.
"""
