"""What program text may not hold, and what to write instead: the messages, away from the grammar.

The functions raise `ProgramError` about a token that cannot stand where it stands; the token is a match of
`expression.TOKEN`, with the groups name, call, number, suffix, attribute, method, sign, other.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from difflib import get_close_matches
from itertools import islice
from keyword import kwlist
from typing import NoReturn

from chainrule_engine.errors import ProgramError
from chainrule_engine.operations import OPERATIONS

KEYWORDS = frozenset(kwlist)

#: Whole numbers beyond this are not all float64 numbers, so reading one could change it silently.
LARGEST_EXACT_INTEGER = 2**53
INEXACT_INTEGER = "whole numbers beyond 2**53 are not exact in float64: write a decimal, such as 1e20 or 1.0e20"

_NOT_HERE = "not part of the language"
_STATEMENT = f"only statements of the form name = expression are part of the language, {{}} is {_NOT_HERE}"
_LOOP = f"loops and comprehensions are {_NOT_HERE}: write the steps out, one line each"
_FUNCTION = "functions cannot be defined: write the expression out where it is needed"
_IMPORT = f"imports are {_NOT_HERE}: every operation is there by its name, so remove the line"
_IDENTITY = f"'in' and 'is' are {_NOT_HERE}: compare numbers with == or !="
_TEXT = f"text is {_NOT_HERE}: only numbers, names and operations are"
_LIST = f"lists, subscripts and comprehensions are {_NOT_HERE}: give each number a name of its own"
_DICTIONARY = f"dictionaries and sets are {_NOT_HERE}: give each number a name of its own"
_AND = "multiply the two comparisons, as in (a > 0) * (b > 0)"
_OR = "take the larger of the two comparisons, as in max(a > 0, b > 0)"
_KEYWORD_ARGUMENT = f"keyword arguments are {_NOT_HERE}: give the values alone, in order"

_WORDS = {
    "and": f"'and' is {_NOT_HERE}: {_AND}",
    "or": f"'or' is {_NOT_HERE}: {_OR}",
    "not": f"'not' is {_NOT_HERE}: use the opposite comparison, as in a <= 0 for not a > 0",
    "in": _IDENTITY,
    "is": _IDENTITY,
    "if": "'if' chooses between two values here: write name = a if c else b",
    "elif": f"'elif' is {_NOT_HERE}: write name = a if c else b",
    "else": "'else' has no 'if' before it: write name = a if c else b",
    "for": _LOOP,
    "while": _LOOP,
    "break": _LOOP,
    "continue": _LOOP,
    "def": _FUNCTION,
    "lambda": f"'lambda' is {_NOT_HERE}, {_FUNCTION}",
    "return": f"'return' is {_NOT_HERE}: name the result with name = expression",
    "yield": f"'yield' is {_NOT_HERE}, {_FUNCTION}",
    "class": f"classes are {_NOT_HERE}: write the expression out where it is needed",
    "import": _IMPORT,
    "from": _IMPORT,
    "True": "True is not a number: write 1.0",
    "False": "False is not a number: write 0.0",
    "None": "None is not a number: write a number or a name",
}

_SIGNS = {
    "=": "only one = in a statement: write name = expression, and == to compare",
    ":=": f"':=' is {_NOT_HERE}: write name = expression in a line of its own",
    ":": f"':' is {_NOT_HERE}: no annotations, no blocks, no slices",
    ",": f"a comma makes a tuple, which is {_NOT_HERE}: one value for each name",
    "(": "only an operation can be called: write * for a product",
    "[": _LIST,
    "]": _LIST,
    "{": _DICTIONARY,
    "}": _DICTIONARY,
    '"': _TEXT,
    "'": _TEXT,
    "//": f"floor division '//' is {_NOT_HERE}: its derivative is 0 almost everywhere; write /",
    "%": f"the remainder '%' is {_NOT_HERE}: its quotient is rounded; use / and * and - instead",
    "@": f"the matrix product '@' is {_NOT_HERE}: write its products and sums out",
    "^": f"'^' is {_NOT_HERE}: write ** for a power",
    "&": f"'&' is {_NOT_HERE}: {_AND}",
    "&&": f"'&&' is {_NOT_HERE}: {_AND}",
    "|": f"'|' is {_NOT_HERE}: {_OR}",
    "||": f"'||' is {_NOT_HERE}: {_OR}",
    "~": f"'~' is {_NOT_HERE}: write 1 - c for the opposite of a comparison",
    "<<": f"'<<' is {_NOT_HERE}: multiply by a power of two",
    ">>": f"'>>' is {_NOT_HERE}: divide by a power of two",
    "!": f"'!' is {_NOT_HERE}: write != to compare, or the opposite comparison for 'not'",
    "−": "this is the typographic minus sign: write -",
    "–": "this is a dash: write - for minus",
    "×": "write * for a product, not '×'",
    "·": "write * for a product, not '·'",
    "÷": "write / for a quotient, not '÷'",
    "²": "write **2 for a square, not '²'",
    "³": "write **3 for a cube, not '³'",
}
#: Signs of the language: where one of them is wrong, what is missing is the value before it.
_AFTER_VALUE = frozenset([")", ",", ".", "/", "<", "<=", "==", "!=", ">=", ">"])

#: What the values of a notebook have besides operations.
_ATTRIBUTES = {
    "backward": "backward() is not needed, the answer holds the gradients: remove it",
    "zero_grad": "zero_grad() is not needed, every evaluation starts from zero gradients: remove it",
    "grad": f"gradients are {_NOT_HERE}: the answer holds them, and `seeds` sets those of the outputs",
    "label": f"labels are {_NOT_HERE}: the name on the left of = is the label",
    "item": "item() is not needed: the name alone is the value",
    "detach": "detach() is called stop_gradient here: write stop_gradient(x)",
}

#: What a notebook calls besides operations.
_FUNCTIONS = {
    "Value": "Value(...) is not needed: give the numbers in `inputs` and use their names",
    "sum": f"sum(...) is {_NOT_HERE}: write the terms out with +",
    "print": f"print(...) is {_NOT_HERE}: the answer holds the value of every name",
    "range": f"range(...) is {_NOT_HERE}: write the steps out, one line each",
    "float": "float(...) is not needed: every value is a float64",
    "int": f"int(...) is {_NOT_HERE}: every value is a float64",
}

_FOLLOWING = re.compile(
    r"\s*(?:(?P<equals>=(?!=))|(?P<quote>[\"'])|(?P<loop>for\b)|(?P<mark>[,:](?!=))|\.\s*(?P<attribute>[^\W\d]\w*+))"
)
_LONGEST_SHOWN = 40


def error_at(text: str, start: int, message: str) -> NoReturn:
    """Raise the `ProgramError` for the place `start` in `text`; lines and columns count from 1."""
    line = text.count("\n", 0, start) + 1
    column = start - text.rfind("\n", 0, start)
    raise ProgramError.at((), f"line {line}, column {column}: {message}")


def quote(word: str) -> str:
    """The word between quotation marks, fit to print: not too long, no control characters."""
    shown = word if len(word) <= _LONGEST_SHOWN else word[: _LONGEST_SHOWN - 1] + "…"
    return f"'{shown}'" if shown.isprintable() else ascii(shown)


def closest(word: str, candidates: Iterable[str]) -> str:
    """A question that offers the names most like `word`, to append to a message; may be empty."""
    # The search compares letter by letter: a bound, or a long program with one wrong name would take long.
    names = [name for name in islice(candidates, 500) if len(name) <= _LONGEST_SHOWN]
    found = get_close_matches(word, names, n=3) if len(word) <= _LONGEST_SHOWN else []
    return f" (did you mean {' or '.join(found)}?)" if found else ""


def refuse_word(text: str, start: int, word: str) -> NoReturn:
    """A keyword of Python."""
    error_at(text, start, _WORDS.get(word) or _STATEMENT.format(quote(word)))


def refuse_function(text: str, start: int, name: str, scope: Container[str]) -> NoReturn:
    """The name of a call that is not the name of an operation, or of a value."""
    if name in KEYWORDS:
        refuse_word(text, start, name)
    if name in scope:
        error_at(text, start, f"{quote(name)} is a value here and cannot be called: write * for a product")
    error_at(text, start, _FUNCTIONS.get(name) or f"unknown function {quote(name)}{closest(name, OPERATIONS)}")


def refuse_name(text: str, match: re.Match[str], scope: Iterable[str], *, nested: bool) -> NoReturn:
    """A name that stands for nothing; `nested`: in brackets."""
    name, start = match["name"], match.start("name")
    if name in KEYWORDS:
        refuse_word(text, start, name)
    # What follows tells what was meant better than the missing name does.
    after = _FOLLOWING.match(text, match.end())
    if after and after["equals"]:
        error_at(text, start, _KEYWORD_ARGUMENT if nested else _SIGNS["="])
    if after and after["quote"]:
        error_at(text, start, _TEXT)
    if after and after["loop"]:
        error_at(text, start, _LOOP)
    if after and after["mark"] and not nested:
        error_at(text, after.start("mark"), _SIGNS[after["mark"]])
    if name in OPERATIONS:
        error_at(text, start, f"{name} is an operation: write {name}(...)")
    if not name.isidentifier():
        refuse_letters(text, start, name)
    message = f"{quote(name)} is not defined{closest(name, scope)}"
    if after and (operation := after["attribute"]) in OPERATIONS:
        message += f"; if it is a module, write {operation}(...) without it"
    error_at(text, start, message)


def refuse_letters(text: str, start: int, name: str) -> NoReturn:
    """A word with a letter that no name has."""
    hint = next((f": {_SIGNS[letter]}" for letter in name if letter in _SIGNS), "")
    error_at(text, start, f"{quote(name)} is not a name{hint}")


def refuse_value(text: str, match: re.Match[str]) -> NoReturn:
    """A token that cannot be or begin a value."""
    sign, start = match["sign"], match.start(match.lastgroup or 0)
    if match["suffix"]:
        _refuse_suffix(text, match)
    if sign in ("*", "**"):
        error_at(text, start, f"a value is missing before '{sign}' (starred arguments are {_NOT_HERE})")
    if sign in _AFTER_VALUE:
        error_at(text, start, f"a value is missing before '{sign}'")
    if match["attribute"]:
        error_at(text, match.start("attribute"), f"a value is missing before the dot of {quote(match['attribute'])}")
    _refuse_sign(text, match)


def refuse_operator(text: str, match: re.Match[str], *, nested: bool) -> NoReturn:
    """A token that cannot follow a value; `nested`: in brackets."""
    name, number, attribute = match["name"], match["number"], match["attribute"]
    if name in KEYWORDS:
        refuse_word(text, match.start("name"), name)
    if name or number:
        start = match.start("name" if name else "number")
        error_at(text, start, f"an operator is missing before {quote(name or number)}")
    if attribute:
        start = match.start("attribute")
        if attribute in OPERATIONS:
            error_at(text, start, f"{attribute} is not called here: write .{attribute}() or {attribute}(...)")
        unknown = f"unknown operation {quote(attribute)}{closest(attribute, OPERATIONS)}"
        unread = "attributes cannot be read: the name alone is the value"
        error_at(text, start, _ATTRIBUTES.get(attribute) or (unknown if match["method"] else unread))
    if match["sign"] == "=" and nested:
        error_at(text, match.start("sign"), _KEYWORD_ARGUMENT)
    _refuse_sign(text, match)


def _refuse_suffix(text: str, match: re.Match[str]) -> NoReturn:
    number, suffix, start = match["number"], match["suffix"], match.start("number")
    if number == "0" and suffix[0] in "xXoObB":
        error_at(text, start, f"hexadecimal, octal and binary numbers are {_NOT_HERE}: write a decimal")
    if suffix in ("j", "J"):
        error_at(text, start, f"complex numbers are {_NOT_HERE}: every value is a float64")
    error_at(text, start, f"the number {quote(number)} runs into {quote(suffix)}: put an operator between them")


def _refuse_sign(text: str, match: re.Match[str]) -> NoReturn:
    sign, start = match["sign"] or match["other"], match.start(match.lastgroup or 0)
    error_at(text, start, _SIGNS.get(sign) or f"the character {quote(sign)} is {_NOT_HERE}: remove it")
