"""A captured client's trace, held against what our own engine would have said in its place."""

from cephcaps.trace.replay.result import Difference, Tally
from cephcaps.trace.replay.rules import RULES, Rule
from cephcaps.trace.replay.run import Replay
from cephcaps.trace.replay.said import COMPARED, Said

__all__ = ["COMPARED", "RULES", "Difference", "Replay", "Rule", "Said", "Tally"]
