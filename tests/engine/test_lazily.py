"""An attribute that is computed once, and by no thread in another's way."""

from __future__ import annotations

from threading import Event, Thread

from chainrule_engine.lazily import lazy


class Waiting:
    """Computes when it is told to."""

    def __init__(self) -> None:
        self.started, self.told = Event(), Event()
        self.computed: list[bool] = []

    @lazy
    def answer(self) -> int:
        self.started.set()
        self.computed.append(self.told.wait(10.0))
        return 42


def test_an_attribute_is_computed_once() -> None:
    it = Waiting()
    it.told.set()
    assert it.answer == it.answer == 42
    assert it.computed == [True]


def test_a_thread_that_computes_stops_no_other() -> None:
    slow, quick = Waiting(), Waiting()
    thread = Thread(target=lambda: slow.answer)
    thread.start()
    assert slow.started.wait(10.0)
    quick.told.set()
    assert quick.answer == 42
    slow.told.set()
    thread.join()
    assert slow.computed == [True]
