"""Names the mistake behind a student's numbers.

>>> from chainrule_engine.graph import Graph
>>> graph = Graph.from_dict({"inputs": {"a": 3.0}, "program": "a + a"})
>>> [explanation.names for explanation in Catalogue(graph).diagnose({"gradients.a": 1.0}).explanations][0]
('assign',)

    mistakes    the table of mistakes: wrong rules, wrong passes
    forms       a graph as different engines build it
    passes      what a pass does: rules run in turn, adding or writing over
    orders      the orders in which rules run
    overwriting what remains where `=` stands for `+=`
    runs        one engine's mistaken runs
    engines     all engines of a graph, with one mistake or two
    precision   what digits numbers have
    right       the right numbers, and what else is right
    matching    compares a student's numbers with runs
    blame       where numbers first contradict each other
    catalogue   looks numbers up in all of that
    loops, loop_mistakes, histories   the same for the losses of a training
"""

from chainrule_engine.diagnosis.blame import Blame
from chainrule_engine.diagnosis.catalogue import Catalogue, Diagnosis, Explanation, Signature, follow_through
from chainrule_engine.diagnosis.histories import HistoryDiagnosis, diagnose_history
from chainrule_engine.diagnosis.loop_mistakes import LOOP_MISTAKES
from chainrule_engine.diagnosis.mistakes import HAND_MISTAKES, MISTAKES, Mistake
from chainrule_engine.diagnosis.precision import Precision

__all__ = [
    "HAND_MISTAKES",
    "LOOP_MISTAKES",
    "MISTAKES",
    "Blame",
    "Catalogue",
    "Diagnosis",
    "Explanation",
    "HistoryDiagnosis",
    "Mistake",
    "Precision",
    "Signature",
    "diagnose_history",
    "follow_through",
]
