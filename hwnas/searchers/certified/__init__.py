"""The best architecture under additive budgets, with a proof.

Score and costs are sums over the rows of a space, given the channels between rows. With a price on
each budget the best architecture is a longest path over the rows, and its value bounds every
architecture that keeps the budgets (`relaxation`). The prices that make this bound least are found
first (`dual`); then all paths whose bound still beats the best known score are enumerated and
scored exactly (`closing`), which leaves no doubt about the optimum.
"""

from .certificate import Certificate, gap
from .solver import Solver

__all__ = ["Certificate", "Solver", "gap"]
