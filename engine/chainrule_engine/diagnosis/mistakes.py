"""The table of mistakes: the wrong rules and the wrong passes that students' engines are seen to have.

A mistake is data. One in a *rule* gives other local derivatives for some operations, or leaves the upstream gradient
out; one in the *pass* changes the order of the rules, the seed, the accumulation or the repetition; one *forward* gives
other values. `runs` and `engines` run them, alone and in pairs. To add a mistake, add one entry.

Each speaks to the student by its hint: what was done and what to look at, never a number of the right answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from chainrule_engine.elementary import cos, divide, exp, power, sigmoid, sin, tanh
from chainrule_engine.operations import OPERATIONS

#: (*arguments, result) → the local derivative for each argument, as the mistaken rule has it; None where it adds
#: nothing, several where it adds more than once.
Locals = Callable[..., tuple[float | tuple[float, ...] | None, ...]]

#: What a mistaken rule does with the upstream gradient g, its local derivatives being d: see `Mistake.upstream`.
UPSTREAM = {
    "times": "g·d, as it should be",
    "none": "d: the upstream gradient is left out",
    "paren": "1 + g·d: a parenthesis is missing around (1 + d), so that the 1 is not multiplied",
    "gate": "g where g > 0, else 0",
    "running": "g where the argument's own gradient is already above 0, else 0",
}


@dataclass(frozen=True)
class Mistake:
    """One mistake.

    name         its word in reports
    title        a few words
    hint         a sentence or two for the student
    number       its number among the 46 that were catalogued first, None for the others
    operations   those whose rule it changes; empty for a mistake in the pass
    locals       operation → its mistaken local derivatives; one that is left out keeps its own
    upstream     operation → what its rule does with the upstream gradient: a word of UPSTREAM; "times" where left out
    order        in which the rules run: a word of `orders.ORDERS`
    again        "" for one pass; what happens before a second: "nothing cleared" or "inputs cleared"
    seeded       how the gradients of the outputs begin: "seeds", "nothing" or "one"
    assigns      operations whose rule writes `=` for `+=`; None for none, empty for all
    forward      operation → its mistaken value
    seen         whether it was found in public code: a tie is named in this order
    """

    name: str
    title: str
    hint: str
    number: int | None = None
    operations: tuple[str, ...] = ()
    locals: Mapping[str, Locals] = field(default_factory=dict)
    upstream: Mapping[str, str] = field(default_factory=dict)
    order: str = "topological"
    again: str = ""
    seeded: str = "seeds"
    assigns: tuple[str, ...] | None = None
    forward: Mapping[str, Callable[..., float]] = field(default_factory=dict)
    seen: bool = False

    @property
    def in_the_pass(self) -> bool:
        """Whether it is in the backward pass and not in a rule."""
        return not self.operations

    @property
    def rank(self) -> tuple[int, int]:
        """Sorts mistakes that explain the same: those seen in public code, the other catalogued ones, the rest."""
        return (0 if self.seen and self.number else 1 if self.number else 2, self.number or 0)


def _own(operation: str, *arguments: float) -> tuple[float, ...]:
    return tuple(partial(*arguments) for partial in OPERATIONS[operation].partials)


def _exponent(x: float, y: float, z: float) -> float:
    return _own("pow", x, y, z)[1]


def _one_for_each(operation: str) -> Locals:
    ones = (1.0,) * OPERATIONS[operation].arity
    return lambda *_: ones


#: Operations whose derivative a student's first engine has, and those with a `no_up` of their own among the 46.
_LISTED = frozenset({"add", "sub", "mul", "div", "neg", "pow", "tanh", "exp", "log", "sin", "relu", "sigmoid"})
_UPSTREAM_LISTED = frozenset({"add", "mul", "pow", "tanh", "exp", "log", "sin"})


def _rule(
    number: int | None,
    name: str,
    operation: str,
    rule: Locals | None,
    title: str,
    hint: str,
    upstream: str = "times",
    seen: bool = False,
) -> Mistake:
    locals_ = {} if rule is None else {operation: rule}
    mistaken = {} if upstream == "times" else {operation: upstream}
    return Mistake(name, title, hint, number, (operation,), locals_, mistaken, seen=seen)


def _no_upstream(number: int | None, operation: str, seen: bool = False) -> Mistake:
    word = {"add": "an addition", "mul": "a multiplication"}.get(operation, operation)
    return _rule(
        number,
        f"{operation}_no_up",
        operation,
        None,
        f"{operation}: upstream gradient left out",
        f"The rule of {word} adds the local derivative alone. By the chain rule it is multiplied by the gradient of "
        "the result, out.grad, before it is added to an argument.",
        upstream="none",
        seen=seen,
    )


_TABLE = (
    Mistake(
        "assign",
        "= where += is needed",
        "A gradient seems to be overwritten where it should be added to: a value that is used more than once gets a "
        "share from each use. Look for `grad = …` in your rules and make it `grad += …`. (If your children are kept in "
        "a set, the wrong numbers may differ from run to run.)",
        1,
        assigns=(),
        seen=True,
    ),
    Mistake(
        "swap_add_mul",
        "the rules of + and * are exchanged",
        "Addition and multiplication seem to have each other's rule. Which of the two passes the upstream gradient on "
        "unchanged, and which multiplies it by the other factor?",
        2,
        ("add", "mul"),
        {"add": lambda x, y, z: (y, x), "mul": lambda x, y, z: (1.0, 1.0)},
        seen=True,
    ),
    _no_upstream(3, "add"),
    _rule(
        4,
        "sub_sign",
        "sub",
        lambda x, y, z: (1.0, 1.0),
        "subtraction: sign of the second argument",
        "The rule of a subtraction gives both arguments the same sign. How does x - y change when y grows?",
        seen=True,
    ),
    _rule(
        5,
        "sub_both_neg",
        "sub",
        lambda x, y, z: (-1.0, -1.0),
        "subtraction: both arguments negative",
        "The rule of a subtraction subtracts from the gradient of both arguments. How does x - y change when x grows?",
        seen=True,
    ),
    _rule(
        6,
        "neg_sign",
        "neg",
        lambda x, z: (1.0,),
        "negation: sign lost",
        "The rule of a negation passes the upstream gradient on unchanged. How does -x change when x grows?",
    ),
    _rule(
        7,
        "mul_own",
        "mul",
        lambda x, y, z: (x, y),
        "multiplication: own factor in place of the other",
        "In a product each factor's gradient is multiplied by that factor itself. If x·y is nudged in x, which number "
        "says how much the product moves?",
    ),
    _rule(
        8,
        "mul_self_twice",
        "mul",
        lambda x, y, z: ((y, x), None),
        "multiplication: both shares to the same factor",
        "The rule of a multiplication adds both shares to self.grad, and nothing to other.grad. Each factor needs one "
        "of the two lines.",
        seen=True,
    ),
    _no_upstream(9, "mul"),
    _rule(
        10,
        "div_sign",
        "div",
        lambda x, y, z: (divide(1.0, y), divide(divide(x, y), y)),
        "division: sign of the denominator's gradient",
        "The gradient of a denominator has the wrong sign. Does x / y grow or shrink when a positive y grows?",
    ),
    _rule(
        11,
        "div_den1",
        "div",
        lambda x, y, z: (divide(1.0, y), -divide(x, y)),
        "division: denominator not squared",
        "In the gradient of a denominator the square is missing. What is the derivative of 1 / y?",
    ),
    _rule(
        12,
        "div_no_num",
        "div",
        lambda x, y, z: (divide(1.0, y), -divide(divide(1.0, y), y)),
        "division: numerator left out",
        "In the gradient of a denominator the numerator is missing: that is the derivative of 1 / y, not of x / y.",
    ),
    _rule(
        13,
        "div_const_den",
        "div",
        lambda x, y, z: (divide(1.0, y), None),
        "division: denominator taken for a constant",
        "A denominator gets no gradient, as if it were a constant. The quotient depends on it as well.",
    ),
    _rule(
        14,
        "pow_no_dec",
        "pow",
        lambda x, y, z: (y * z, _exponent(x, y, z)),
        "power: exponent not lowered",
        "In the rule of a power the exponent is not lowered by one. What is the derivative of x squared?",
    ),
    _rule(
        15,
        "pow_no_coef",
        "pow",
        lambda x, y, z: (power(x, y - 1.0), _exponent(x, y, z)),
        "power: exponent not brought down",
        "In the rule of a power the exponent is lowered, but not brought down as a factor.",
    ),
    _rule(
        16,
        "pow_dec_coef",
        "pow",
        lambda x, y, z: ((y - 1.0) * power(x, y - 1.0), _exponent(x, y, z)),
        "power: the lowered exponent brought down",
        "In the rule of a power the factor in front is the exponent after it was lowered; it is the exponent before.",
    ),
    _no_upstream(17, "pow"),
    _rule(
        18,
        "tanh_input",
        "tanh",
        lambda x, z: (1.0 - x * x,),
        "tanh: input in place of the output",
        "In the rule of tanh the input is squared. The derivative is written with the output: 1 - tanh(x)².",
        seen=True,
    ),
    _rule(
        19,
        "tanh_plus",
        "tanh",
        lambda x, z: (1.0 + z * z,),
        "tanh: plus in place of minus",
        "In the rule of tanh there is a plus where a minus belongs. Should the slope grow or shrink where tanh "
        "saturates?",
        seen=True,
    ),
    _rule(
        20,
        "tanh_nosq",
        "tanh",
        lambda x, z: (1.0 - z,),
        "tanh: square missing",
        "In the rule of tanh the output is not squared.",
    ),
    _rule(
        21,
        "tanh_double",
        "tanh",
        lambda x, z: (1.0 - tanh(z) ** 2,),
        "tanh: applied twice",
        "In the rule of tanh the function is applied to its own output. The output already is tanh(x): do not take "
        "tanh of it again.",
        seen=True,
    ),
    _rule(
        22,
        "tanh_paren",
        "tanh",
        lambda x, z: (-z * z,),
        "tanh: parentheses missing",
        "In the rule of tanh the upstream gradient multiplies only a part of the derivative: parentheses are missing "
        "around 1 - y².",
        upstream="paren",
        seen=True,
    ),
    _no_upstream(23, "tanh", seen=True),
    _rule(
        24,
        "exp_input",
        "exp",
        lambda x, z: (x,),
        "exp: input in place of the output",
        "In the rule of exp the upstream gradient is multiplied by the input. The derivative of exp is exp: the "
        "output.",
        seen=True,
    ),
    _rule(
        25,
        "exp_powerrule",
        "exp",
        lambda x, z: (x * exp(x - 1.0),),
        "exp: power rule",
        "The rule of exp is that of a power. Here the variable stands in the exponent, not in the base.",
    ),
    _no_upstream(26, "exp"),
    _rule(
        27,
        "log_out",
        "log",
        lambda x, z: (divide(1.0, z) if z != 0.0 else 0.0,),
        "log: divided by the output",
        "The rule of log divides by the output of the logarithm; it is the input that belongs there.",
    ),
    _rule(
        28,
        "log_self",
        "log",
        lambda x, z: (z,),
        "log: its own derivative",
        "The rule of log multiplies by the logarithm, as if it were its own derivative. That is true of exp.",
    ),
    _no_upstream(29, "log"),
    _rule(
        30,
        "sin_sign",
        "sin",
        lambda x, z: (-cos(x),),
        "sin: sign",
        "The rule of sin has the wrong sign. Does the sine rise or fall at zero?",
    ),
    _no_upstream(31, "sin", seen=True),
    _rule(
        32,
        "relu_ge",
        "relu",
        lambda x, z: (1.0 if x >= 0.0 else 0.0,),
        "relu: passes the gradient at exactly zero",
        "Your relu passes the gradient where its input is exactly zero. Any slope from 0 to 1 may be chosen there; "
        "the usual choice is none: compare with x > 0.",
        seen=True,
    ),
    _rule(
        33,
        "relu_wrongside",
        "relu",
        lambda x, z: (1.0 if x < 0.0 else 0.0,),
        "relu: the wrong side",
        "The rule of relu passes the gradient where the input is negative. On which side does its output move?",
    ),
    _rule(
        34,
        "relu_pass",
        "relu",
        lambda x, z: (1.0,),
        "relu: gradient always passed",
        "The rule of relu passes the gradient everywhere. What happens to the output when a negative input is nudged?",
        seen=True,
    ),
    _rule(
        35,
        "relu_value",
        "relu",
        lambda x, z: (z,),
        "relu: output in place of the slope",
        "The rule of relu multiplies by its output. It should multiply by its slope, which is one or nothing.",
    ),
    _rule(
        36,
        "relu_on_grad",
        "relu",
        None,
        "relu: tests the gradient, not the input",
        "The rule of relu asks whether the input's gradient is positive. It is the input's data that decides.",
        upstream="running",
        seen=True,
    ),
    _rule(
        37,
        "relu_gate_up",
        "relu",
        None,
        "relu: applied to the upstream gradient",
        "The rule of relu passes positive upstream gradients only. It is the input's sign that decides, not the "
        "gradient's.",
        upstream="gate",
    ),
    _rule(
        38,
        "sig_input",
        "sigmoid",
        lambda x, z: (x * (1.0 - x),),
        "sigmoid: input in place of the output",
        "In the rule of the sigmoid the input stands where the output belongs: the derivative is s·(1 - s) with the "
        "output s.",
    ),
    _rule(
        39,
        "sig_double",
        "sigmoid",
        lambda x, z: (sigmoid(z) * (1.0 - sigmoid(z)),),
        "sigmoid: applied twice",
        "In the rule of the sigmoid the function is applied to its own output, which already is the sigmoid.",
        seen=True,
    ),
    _rule(
        40,
        "sig_plus",
        "sigmoid",
        lambda x, z: (z * (1.0 + z),),
        "sigmoid: plus in place of minus",
        "In the rule of the sigmoid there is a plus where a minus belongs. Should the slope grow or shrink where it "
        "saturates?",
    ),
    Mistake(
        "no_seed",
        "the output's gradient is never set",
        "Backward seems to start from nothing: the gradient of the output must be set (to 1) before the first rule "
        "runs.",
        41,
        seeded="nothing",
        seen=True,
    ),
    Mistake(
        "no_topo_dfs",
        "a rule runs once for every path to its node",
        "Backward seems to recurse into the children of each node again for every path that leads there, so that a "
        "node that is used more than once passes its gradient on more than once. Order the nodes first, so that each "
        "rule runs once, after all uses of its result. (A topological sort that does not keep in mind which nodes it "
        "has visited gives the same numbers.)",
        42,
        order="every path",
        seen=True,
    ),
    Mistake(
        "bfs_once",
        "breadth-first order",
        "The rules seem to run level by level from the output, so that one runs before all the shares of its gradient "
        "have arrived. Use a topological order: a node's turn comes after everything that uses it.",
        43,
        order="breadth first",
        seen=True,
    ),
    Mistake(
        "dfs_preorder",
        "a rule runs when its node is first met",
        "The rules seem to run in the order in which a depth-first search first meets the nodes, before all the shares "
        "of a gradient have arrived. Add a node to the list after its children, and go through the list backwards.",
        44,
        order="preorder",
        seen=True,
    ),
    Mistake(
        "not_reversed",
        "from the inputs to the output",
        "The rules seem to run from the inputs to the output, so that most run before any gradient has arrived. Go "
        "through the topological order backwards.",
        45,
        order="not reversed",
    ),
    Mistake(
        "twice",
        "backward twice without clearing",
        "Backward seems to have run twice with nothing cleared in between. Set the gradients of all nodes to zero "
        "before the second time.",
        46,
        again="nothing cleared",
        seen=True,
    ),
    # ------------------------------------------------------------------------------------------- beside the 46
    Mistake(
        "stale_interior",
        "gradients of the nodes between not cleared",
        "Backward seems to have run twice, with only the inputs' gradients cleared in between. The nodes between have "
        "gradients as well.",
        again="inputs cleared",
        seen=True,
    ),
    Mistake(
        "seed_one",
        "the seed is ignored",
        "Backward seems to start from 1 whatever the given seeds are.",
        seeded="one",
    ),
    *(
        Mistake(
            f"assign_{operation}",
            f"= where += is needed, in {operation} alone",
            f"The rule of {operation} seems to overwrite the gradient of its arguments where it should add to it.",
            assigns=(operation,),
        )
        for operation in ("mul", "add", "sub", "div", "exp", "tanh", "pow")
    ),
    *(_no_upstream(None, name) for name, o in OPERATIONS.items() if name not in _UPSTREAM_LISTED and not o.selective),
    _rule(
        None,
        "pow_exponent_zero",
        "pow",
        lambda x, y, z: (_own("pow", x, y, z)[0], None),
        "power: exponent taken for a constant",
        "An exponent gets no gradient, as if it were a constant. The power depends on it as well.",
        seen=True,
    ),
    _rule(
        None,
        "pow_exponent_no_log",
        "pow",
        lambda x, y, z: (_own("pow", x, y, z)[0], z),
        "power: logarithm missing",
        "In the gradient of an exponent the logarithm of the base is missing.",
        seen=True,
    ),
    _rule(
        None,
        "cos_sign",
        "cos",
        lambda x, z: (sin(x),),
        "cos: sign",
        "The rule of cos has the wrong sign. Does the cosine rise or fall just above zero?",
    ),
    *(
        _rule(
            None,
            f"{operation}_one",
            operation,
            _one_for_each(operation),
            f"{operation}: no rule of its own",
            f"The gradient passes through {operation} unchanged, as if its derivative were 1.",
            seen=True,
        )
        for operation, entry in OPERATIONS.items()
        if operation not in _LISTED and not (entry.selective and entry.arity == 2)
    ),
    *(
        _rule(
            None,
            f"{operation}_one",
            operation,
            lambda x, z: (1.0,),
            f"{operation}: derivative left out",
            f"The gradient passes through {operation} unchanged, as if its derivative were 1.",
        )
        for operation in ("tanh", "exp", "log", "sin", "sigmoid")
    ),
    Mistake(
        "neg_self",
        "negation returns the number itself",
        "A negation returns its argument unchanged: the values are wrong before backward begins.",
        None,
        ("neg",),
        {"neg": lambda x, z: (1.0,)},
        forward={"neg": lambda x: x},
        seen=True,
    ),
)

#: Every mistake by its name.
MISTAKES: dict[str, Mistake] = {mistake.name: mistake for mistake in _TABLE}

#: By their names, those that no engine makes, but one who computes by hand, at one node.
HAND_MISTAKES: dict[str, Mistake] = {
    mistake.name: mistake
    for mistake in (
        Mistake(
            "missing_use",
            "one use of a value is forgotten",
            "A value that is used more than once gets a share of its gradient from each use, and one of the shares "
            "seems to be missing.",
        ),
    )
}

#: What may be named.
NAMED = MISTAKES | HAND_MISTAKES
