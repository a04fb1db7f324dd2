"""How a student's number is compared with the right one: the table of modes, and the presets.

A mode measures how far a number is off, and how far it may be; a multiple of the second gives the bands of partial
credit. Whatever cannot be compared is infinitely far off, so it is never right by default.

Equal numbers are right in every mode that measures a distance. NaN is right where NaN is expected and `equal_nan` says
so; an infinity where the same one is expected, unless `infinity` says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chainrule_engine.errors import Path
from chainrule_engine.grading import distances
from chainrule_engine.grading.distances import Distance, Settings
from chainrule_engine.grading.fields import Reader


@dataclass(frozen=True)
class Setting:
    """A field of a comparison.

    read     (reader, value, path) → what is meant by it
    default  None where it must be given, or may be left out (`optional`)
    shown    whether a report tells it: not what the right answer could be read off from
    """

    read: Callable[[Reader, object, Path], Any]
    default: Any = None
    optional: bool = False
    shown: bool = True


@dataclass(frozen=True)
class Mode:
    """A way to compare.

    description  one line
    settings     its fields by name
    together     fields that are given all or not at all
    any_one_of   fields of which one at least is given
    each         (student, expected, settings) → distance, number by number; or
    whole        (students, expected, settings) → distance of all numbers together
    banded       whether the error comes in multiples of a tolerance, so that there can be bands
    """

    description: str
    settings: Mapping[str, Setting]
    each: Callable[[float, float, Settings], Distance] | None = None
    whole: Callable[[Sequence[float], Sequence[float], Settings], Distance] | None = None
    together: tuple[str, ...] = ()
    any_one_of: tuple[str, ...] = ()
    banded: bool = True


@dataclass(frozen=True)
class Compare:
    """A mode with its settings."""

    mode: str
    settings: Settings = field(default_factory=dict)

    @property
    def rule(self) -> Mode:
        """The mode's entry in the table."""
        return MODES[self.mode]

    def measure(self, student: float, expected: float) -> Distance:
        """Compare one number; for modes that go number by number."""
        rule = self.rule.each
        assert rule is not None
        return rule(student, expected, self.settings)

    def to_dict(self) -> dict[str, Any]:
        """Write the form that is read, with every setting that has a value."""
        return {"mode": self.mode} | {name: value for name, value in self.settings.items() if value is not None}

    def shown(self) -> dict[str, Any]:
        """Return the settings that a report may tell: those that do not tell the right answer."""
        fields = self.rule.settings
        return {
            name: value
            for name, value in self.settings.items()
            if fields[name].shown and value is not None and value is not False
        }


# ------------------------------------------------------------------------------------------------- the table


def _number(*, whole: bool = False, **bounds: float) -> Callable[[Reader, object, Path], Any]:
    def read(reader: Reader, value: object, path: Path) -> Any:
        number = reader.number(value, path, whole=whole, **bounds)
        return int(number) if whole and number is not None else number

    return read


def _choice(*choices: str) -> Callable[[Reader, object, Path], Any]:
    return lambda reader, value, path: reader.choice(value, path, choices)


def _values(reader: Reader, value: object, path: Path) -> list[float]:
    items = reader.items(value, path, "the accepted values", least=1, most=100)
    return [number for place, item in items if (number := reader.number(item, place)) is not None]


_NONNEGATIVE = _number(least=0.0)
_FLAG = Setting(Reader.flag, False)
_TOLERANCES = {"rtol": Setting(_NONNEGATIVE, 1e-4), "atol": Setting(_NONNEGATIVE, 1e-6)}
_HISTORY_TOLERANCES = {"rtol": Setting(_NONNEGATIVE, 1e-6), "atol": Setting(_NONNEGATIVE, 1e-9)}
_UNUSUAL = {"equal_nan": _FLAG, "infinity": Setting(_choice("same", "never", "arithmetic"), "same", shown=False)}
_STRICT = {"strict": _FLAG}
_ZERO = {"zero_level": Setting(_NONNEGATIVE, 1e-14), "zero_atol": Setting(_NONNEGATIVE, 1e-12)}

#: Every mode by its name on the wire.
MODES: dict[str, Mode] = {
    "exact": Mode("equal", _UNUSUAL, distances.exact, banded=False),
    "allclose": Mode(
        "|student - expected| <= atol + rtol·|expected|",
        _TOLERANCES | _STRICT | _UNUSUAL,
        distances.by_tolerance(distances.allclose),
        together=("rtol", "atol"),
    ),
    "isclose": Mode(
        "|student - expected| <= max(rtol·size, atol), size being that of the larger one or of the expected one",
        _TOLERANCES | {"relative_to": Setting(_choice("larger", "expected"), "larger")} | _STRICT | _UNUSUAL,
        distances.by_tolerance(distances.isclose),
        together=("rtol", "atol"),
    ),
    "absolute": Mode(
        "|student - expected| <= atol",
        {"atol": Setting(_NONNEGATIVE)} | _STRICT | _UNUSUAL,
        distances.by_tolerance(lambda student, expected, settings: settings["atol"]),
    ),
    "relative": Mode(
        "|student - expected| <= rtol·|expected|, or zero_atol where one of the two is smaller than zero_level",
        {"rtol": Setting(_NONNEGATIVE)} | _ZERO | _STRICT | _UNUSUAL,
        distances.by_tolerance(distances.relative),
        together=("zero_level", "zero_atol"),
    ),
    "percent": Mode(
        "as relative, in percent of the expected number",
        {"percent": Setting(_NONNEGATIVE)} | _ZERO | _STRICT | _UNUSUAL,
        distances.by_tolerance(distances.percent),
        together=("zero_level", "zero_atol"),
    ),
    "sigfig": Mode(
        "|student - expected| < 0.51 units of the last of so many significant digits of the expected number",
        {"digits": Setting(_number(least=1, most=17, whole=True))} | _UNUSUAL,
        distances.by_tolerance(distances.sigfig, strict=True),
    ),
    "decimals": Mode(
        "|student - expected| < 0.51 units of the last of so many decimal places",
        {"digits": Setting(_number(least=0, most=20, whole=True))} | _UNUSUAL,
        distances.by_tolerance(distances.decimals, strict=True),
    ),
    "range": Mode(
        "low <= student <= high, whatever is expected",
        {name: Setting(_number(), optional=True, shown=False) for name in ("low", "high")},
        distances.between,
        any_one_of=("low", "high"),
        banded=False,
    ),
    "ulp": Mode(
        "so many float64 numbers lie at most from one to the other",
        {"ulps": Setting(_number(least=0, most=2**53, whole=True))} | _UNUSUAL,
        distances.ulp,
    ),
    "any_of": Mode(
        "as allclose, to the expected number or one of these values",
        {"values": Setting(_values, shown=False)} | _TOLERANCES | _UNUSUAL,
        distances.any_of,
        together=("rtol", "atol"),
    ),
    "sequence": Mode(
        "as allclose, number by number; the list may be shorter or longer, and is then wrong from there on",
        _HISTORY_TOLERANCES | _UNUSUAL,
        distances.by_tolerance(distances.allclose),
        together=("rtol", "atol"),
    ),
    "direction": Mode(
        "the cosine of the angle between the student's vector and the expected one is min_cosine at least",
        {"min_cosine": Setting(_number(above=-1.0, most=1.0), 0.999999)},
        whole=distances.direction,
    ),
    "monotone": Mode(
        "a list that never rises, or never falls",
        {"order": Setting(_choice("decreasing", "increasing"), "decreasing"), "strict": _FLAG},
        whole=distances.monotone,
        banded=False,
    ),
    "threshold": Mode(
        "the number, or the last of a list, is not above at_most and not below at_least",
        {name: Setting(_number(), optional=True, shown=False) for name in ("at_most", "at_least")},
        whole=distances.threshold,
        any_one_of=("at_most", "at_least"),
        banded=False,
    ),
}

#: What a word stands for where a comparison is asked for. The first three are defaults.
PRESETS: dict[str, dict[str, Any]] = {
    "numbers": {"mode": "allclose", "rtol": 1e-4, "atol": 1e-6},
    "loss_history": {"mode": "sequence", "rtol": 1e-6, "atol": 1e-9},
    "parameters": {"mode": "allclose", "rtol": 1e-5, "atol": 1e-7},
    "exact": {"mode": "exact"},
    "torch64": {"mode": "allclose", "rtol": 1e-7, "atol": 1e-7},
    "torch32": {"mode": "allclose", "rtol": 1.3e-6, "atol": 1e-5},
    "torch16": {"mode": "allclose", "rtol": 1e-3, "atol": 1e-5},
    "bfloat16": {"mode": "allclose", "rtol": 1.6e-2, "atol": 1e-5},
    "sigfig3": {"mode": "sigfig", "digits": 3},
    "sigfig4": {"mode": "sigfig", "digits": 4},
    "decimals4": {"mode": "decimals", "digits": 4},
}


def read_compare(reader: Reader, data: object, path: Path, default: str = "numbers") -> Compare:
    """Read a comparison: a preset's name, or a mode with its settings; `default` is the preset whose mode is meant."""
    if isinstance(data, str):
        name = reader.choice(data, path, PRESETS)
        return read_compare(reader, PRESETS[name or default], path)
    if not isinstance(data, dict):
        reader.mapping(data, path, ("mode",), "a comparison")
        return read_compare(reader, PRESETS[default], path)
    mode = PRESETS[default]["mode"]
    if "mode" in data:
        mode = reader.choice(data["mode"], (*path, "mode"), MODES) or ""
    if mode not in MODES:
        return Compare("exact")
    rule = MODES[mode]
    reader.mapping(data, path, ("mode", *rule.settings), f"the comparison {mode}")
    given = [name for name in rule.together if name in data]
    if given and len(given) < len(rule.together):
        missing = " and ".join(name for name in rule.together if name not in data)
        reader.problem(path, f"{' and '.join(given)} alone is not a rule: give {missing} as well, or neither")
    if rule.any_one_of and not any(name in data for name in rule.any_one_of):
        reader.problem(path, f"{mode} needs {' or '.join(rule.any_one_of)}")
    settings: dict[str, Any] = {}
    for name, setting in rule.settings.items():
        if name in data:
            settings[name] = setting.read(reader, data[name], (*path, name))
        elif setting.default is None and not setting.optional:
            reader.problem(path, f"{mode} needs {name}")
        else:
            settings[name] = setting.default
    least, most = settings.get("low"), settings.get("high")
    if least is not None and most is not None and least > most:
        reader.problem((*path, "low"), "low is not above high")
    return Compare(mode, settings)
