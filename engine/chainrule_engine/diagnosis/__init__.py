"""Names the mistake behind a student's numbers.

>>> graph = Graph.from_dict({"inputs": {"a": 3.0}, "program": "a + a"})
>>> [explanation.names for explanation in Catalogue(graph).diagnose({"gradients.a": 1.0}).explanations][0]
('assign',)

    mistakes    the table of mistakes: wrong rules, wrong passes
    forms       a graph as different engines build it
    passes      the orders in which rules run
    runs        mistaken engines, alone and in pairs
    precision   what digits numbers have
    right       the right numbers, and what else is right
    blame       where numbers first contradict each other
    catalogue   looks numbers up in all of that
    histories   the same for the losses of a training
"""

from chainrule_engine.diagnosis.blame import Blame
from chainrule_engine.diagnosis.catalogue import Catalogue, Diagnosis, Explanation, Signature, follow_through
from chainrule_engine.diagnosis.mistakes import MISTAKES, Mistake
from chainrule_engine.diagnosis.precision import Precision

__all__ = [
    "MISTAKES",
    "Blame",
    "Catalogue",
    "Diagnosis",
    "Explanation",
    "Mistake",
    "Precision",
    "Signature",
    "follow_through",
]
