"""What scripts share: flags, command lines, progress, hosts, settings.

May import `ossgd`, and no script.
"""
