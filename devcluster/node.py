"""placeholder"""

HOLDER = "node"


def holder(paths):
    return []


def inside(paths):
    return []


def arguments(paths, plan, component):
    return []
