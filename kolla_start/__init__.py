"""kolla_start: the program that runs first in a container.

Empty but for the version on purpose: every start of every container imports it.
"""

__version__ = "1.0.0"
