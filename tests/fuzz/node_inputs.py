"""placeholder"""


def targets():
    return []
