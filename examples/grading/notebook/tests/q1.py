"""Written by chainrule_engine.testing.otter_test_file: a case for each check of the task."""

from otter.test_files import test_case

from chainrule_engine.testing import assert_check

OK_FORMAT = False

name = "q1"
points = None


@test_case(name="g", points=1.0, hidden=False)
def test_1(env):
    assert_check(env, "value", spec="task.json")


@test_case(name="∂g/∂d", points=1.0, hidden=False)
def test_2(env):
    assert_check(env, "grad.d", spec="task.json")


@test_case(name="∂g/∂e", points=1.0, hidden=False)
def test_3(env):
    assert_check(env, "grad.e", spec="task.json")


@test_case(name="∂g/∂a", points=2.0, hidden=False)
def test_4(env):
    assert_check(env, "grad.a", spec="task.json")


@test_case(name="∂g/∂b", points=1.0, hidden=True)
def test_5(env):
    assert_check(env, "grad.b", spec="task.json")
