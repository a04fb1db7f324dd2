"""Each form as its platform reads it: what it must hold, and what must not be in it."""

import json
import math
import re
import shlex
import subprocess
import xml.etree.ElementTree as ET
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.engine.reports import CASES, HOSTILE, OPTIONS, VISIBILITIES, case, check, mistake, report

from chainrule_engine.rendering import FORMATS, RenderingError, render
from chainrule_engine.rendering.rounding import share, whole
from chainrule_engine.rendering.view import read

GRADED = [name for name, data in CASES.items() if data["outcome"] == "graded"]


def text(name, form, **options):
    data = case(name) if isinstance(name, str) else name
    return render(data, form, **OPTIONS.get(form, {}), **options).text


def loaded(name, form, **options):
    return json.loads(text(name, form, **options))


# -------------------------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("form", FORMATS)
def test_every_text_can_be_written_and_has_no_control_characters(form, name):
    written = text(name, form)
    written.encode()
    if form != "json":
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]|\\u0000|\\ud800(?!\\ud)|\\u001b", written)


@pytest.mark.parametrize("form", FORMATS)
def test_a_rendering_is_a_function_of_the_report_and_leaves_it_alone(form):
    data = case("hostile")
    first = render(data, form, **OPTIONS.get(form, {}))
    assert render(data, form, **OPTIONS.get(form, {})) == first
    assert data == CASES["hostile"]


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_of_staff_is_in_any_form(form):
    for name in CASES:
        assert "645" not in text(name, form)


#: The forms whose platform hides tests by itself: they are marked there, and nothing is left out.
MARKING = {"gradescope", "otter", "coderunner"}


@pytest.mark.parametrize("phase", ["open", "due", "published"])
@pytest.mark.parametrize("form", sorted(set(FORMATS) - MARKING))
def test_checks_that_students_may_not_see_are_left_out(form, phase):
    written = text("hidden", form, phase=phase)
    seen = {"b": phase != "open", "c": phase == "published", "d": False, "e": False}
    for name, shown in seen.items():
        if not shown:
            assert f"secret of {name}" not in written
            assert f"title of {name}" not in written


@pytest.mark.parametrize("form", sorted(set(FORMATS) - {"nbgrader", "mugrade"}))
def test_failures_of_the_grader_are_never_points(form):
    rendering = render(case("infrastructure_error"), form, **OPTIONS.get(form, {}))
    for score in re.findall(r'"(?:score|fraction|fractionalScore|awardedPoints)": ([\d.]+)', rendering.text):
        assert float(score) == 0.0
    assert '"correct": true' not in rendering.text


@pytest.mark.parametrize(
    ("form", "status"),
    [("gradescope", 0), ("prairielearn", 0), ("coderunner", 0), ("inginious", 0)]
    + [(form, 1) for form in FORMATS if form not in ("gradescope", "prairielearn", "coderunner", "inginious")],
)
def test_the_exit_status_tells_of_the_grader_alone(form, status):
    """Those that have a form for it end well; where only the status can tell, it does."""
    assert render(case("infrastructure_error"), form, **OPTIONS.get(form, {})).exit_status == status
    for name in CASES:
        if name != "infrastructure_error":
            assert render(case(name), form, **OPTIONS.get(form, {})).exit_status == 0, name


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_no_report_of_the_staffs_is_refused(form):
    student = {name: entry for name, entry in case("full").items() if name != "staff"}
    for data in ({}, {"schema": "chainrule.report/2", "staff": {}}, student):
        with pytest.raises(RenderingError, match=r"no chainrule\.report/1 of the staff audience") as caught:
            render(data, form, **OPTIONS.get(form, {}))
        assert caught.value.problems[0].path == ()


def test_no_points_are_not_all_points():
    nothing = report(check("a", 0, 0, passed=False))
    assert loaded(nothing, "xqueue")["correct"] is False
    assert text(nothing, "inginious").startswith("feedback-result failed")
    assert text(nothing, "mugrade") == '{"correct": false}'
    assert text(report(check("a", 0, 0, passed=True)), "mugrade") == '{"correct": true}'
    for form in FORMATS:
        render(nothing, form, **OPTIONS.get(form, {}))


def test_options_are_checked():
    for options, path, words in [
        ({"pointz": 3}, ("options", "pointz"), "did you mean points"),
        ({"zzz": 3}, ("options", "zzz"), "there are phase, points, check"),
        ({"points": 0}, ("options", "points"), "at least 1"),
        ({"points": "5.5"}, ("options", "points"), "whole number"),
        ({"points": True}, ("options", "points"), "whole number"),
        ({"points": "٣"}, ("options", "points"), "whole number"),
        ({"check": 3}, ("options", "check"), "must be text"),
        ({"check": "zzz"}, ("options", "check"), "there are a, b, c"),
        ({"phase": "later"}, ("options", "phase"), "open, due, published"),
    ]:
        with pytest.raises(RenderingError, match=words) as caught:
            render(case("full"), "nbgrader", **options)
        assert caught.value.problems[0].path == path
    with pytest.raises(RenderingError, match="did you mean gradescope") as caught:
        render(case("full"), "grade-scope")
    assert caught.value.problems[0].path == ("format",)
    with pytest.raises(RenderingError, match="is missing: the userId"):
        render(case("full"), "lti-ags")
    assert text("full", "nbgrader", points="10") == "10.0"


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_says_what_it_is(form):
    described = FORMATS[form]
    assert described.description
    assert described.target
    assert all(option.description and option.name.isidentifier() for option in described.options)


# --------------------------------------------------------------------------------------------------- Gradescope


def test_gradescope_keeps_to_its_specification():
    for name in CASES:
        results = loaded(name, "gradescope")
        assert isinstance(results["score"], int | float)
        assert results["stdout_visibility"] == "hidden"
        assert results["output_format"] == "text"
        for test in results["tests"]:
            assert test["status"] in ("passed", "failed")
            assert test["visibility"] in ("visible", "after_due_date", "after_published", "hidden")
            assert all(isinstance(test[key], str) for key in ("name", "number", "output"))
            assert all(isinstance(test[key], int | float) for key in ("score", "max_score"))


def test_gradescope_hides_tests_by_itself_and_students_are_told_where_they_stand():
    results = loaded("hidden", "gradescope")
    assert [test["visibility"] for test in results["tests"]] == [*VISIBILITIES[:4], "hidden"]
    assert results["score"] == 3
    assert results["output"] == "Tests shown at once: 1 of 1 passed. Others, shown later or never: 4."
    assert results["tests"][1]["output"] == "not correct\nsecret of b"
    assert loaded("partial", "gradescope")["output"].startswith("1.5 of 4 points.")


def test_gradescope_gets_its_file_whatever_happened():
    assert "have not been graded" in loaded("infrastructure_error", "gradescope")["output"]
    (test,) = loaded("not_gradable", "gradescope")["tests"]
    assert test["output"].splitlines() == [
        "/gradients/a: must be a number, and this is a string",
        "/gradients/α: must be a number, and this is an object",
    ]
    assert (test["status"], test["visibility"], test["score"]) == ("failed", "visible", 0)


# ------------------------------------------------------------------------------------------------- PrairieLearn


def test_prairielearn_has_a_score_from_0_to_1_and_points_for_every_test():
    for name in GRADED:
        results = loaded(name, "prairielearn")
        assert results["gradable"] is True
        assert 0 <= results["score"] <= 1
        assert all({"points", "max_points"} <= test.keys() for test in results["tests"])
    assert loaded("partial", "prairielearn")["score"] == 0.375
    assert loaded("hidden", "prairielearn")["score"] == 0.6


def test_prairielearn_uses_no_attempt_for_what_was_not_graded():
    results = loaded("not_gradable", "prairielearn")
    assert results == {
        "gradable": False,
        "format_errors": [
            "/gradients/a: must be a number, and this is a string",
            "/gradients/α: must be a number, and this is an object",
        ],
    }
    assert loaded("infrastructure_error", "prairielearn")["gradable"] is False


@pytest.mark.parametrize(("count", "left"), [(200, 200), (3000, 3000), (20_000, 0)])
def test_prairielearn_takes_a_megabyte(count, left):
    data = report(*[check(f"x{i}", 0, title=f"title {i}", message="∂" * 500) for i in range(count)])
    written = text(data, "prairielearn")
    assert len(written.encode()) <= 1_000_000
    results = json.loads(written)
    assert len(results["tests"]) == left
    assert results["score"] == 0.0
    assert all(bool(test["message"]) == (count == 200) for test in results["tests"])


# ---------------------------------------------------------------------------------------------- Otter, nbgrader


def test_otter_has_a_case_for_each_check():
    data = loaded("hidden", "otter")
    assert [c["hidden"] for c in data["test_cases"]] == [False, True, True, True, True]
    assert [c["passed"] for c in data["test_cases"]] == [True, False, True, False, True]
    assert all(c["failure_message"] for c in data["test_cases"] if not c["passed"])
    for name in ("not_gradable", "infrastructure_error"):
        (only,) = loaded(name, "otter")["test_cases"]
        assert only["passed"] is False


def nbgrader(output, most):
    """The points that nbgrader reads from the text of a cell's last expression, as its `determine_grade` does."""
    try:
        grade = float(output)
    except ValueError:
        return most
    assert grade <= most
    return grade if grade > 0 or output == "0.0" else most


@pytest.mark.parametrize("points", [None, 1, 7])
@pytest.mark.parametrize("name", CASES)
def test_nbgrader_reads_the_points(name, points):
    most = points or CASES[name]["max_score"]
    written = text(name, "nbgrader", points=points)
    earned = CASES[name]["fraction"] if CASES[name]["outcome"] == "graded" else 0.0
    assert nbgrader(written, most) == pytest.approx(earned * most)
    assert re.fullmatch(r"\d+\.\d+", written)


def test_nbgrader_has_one_cell_for_each_check():
    assert [text("partial", "nbgrader", check=name) for name in "abc"] == ["1.0", "0.5", "0.0"]
    assert text("partial", "nbgrader", check="b", points=10) == "2.5"
    assert text("not_gradable", "nbgrader", check="b") == "0.0"


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.integers(1, 1000))
def test_nbgrader_never_gets_more_than_the_cell_has(score, most, points):
    data = report(check("a", min(score, most), most))
    assert 0.0 <= float(text(data, "nbgrader", points=points)) <= points


# --------------------------------------------------------------------------------------------------- protocols


def test_mued_is_a_list_of_feedback():
    feedback = loaded("partial", "mued")
    assert [item["awardedPoints"] for item in feedback] == [1.0, 0.5, 0.0]
    assert feedback[1]["target"]["locator"] == {"type": "json-pointer", "pointer": "/gradients/b"}
    assert [item["feedbackId"] for item in loaded("hidden", "mued", phase="due")] == ["a", "b"]
    for name, status in [("not_gradable", 400), ("infrastructure_error", 500), ("full", 200)]:
        rendering = render(case(name), "mued")
        assert rendering.http_status == status
        if status != 200:
            assert {"title", "message", "code"} <= json.loads(rendering.text).keys()


@pytest.mark.parametrize(
    ("key", "pointer"),
    [
        ("value", "/value"),
        ("values.a/b", "/values/a~1b"),
        ("gradients.a.b", "/gradients/a.b"),
        ("gradients.~", "/gradients/~0"),
        ("parameters.layers.0.weights", "/parameters/layers/0/weights"),
    ],
)
def test_mued_points_into_the_answers(key, pointer):
    (item,) = loaded(report(check("a", of=key)), "mued")
    assert item["target"]["locator"]["pointer"] == pointer
    assert "target" not in loaded(report(check("a", of=[key, "value"])), "mued")[0]


def test_mugrade_says_yes_or_no():
    assert [text("partial", "mugrade", index=i) for i in range(3)] == ['{"correct": true}'] + ['{"correct": false}'] * 2
    assert text("full", "mugrade") == '{"correct": true}'
    assert text("not_gradable", "mugrade", index=0) == '{"correct": false}'
    assert render(case("infrastructure_error"), "mugrade").http_status == 500
    with pytest.raises(RenderingError, match="there are 3 checks"):
        text("full", "mugrade", index=3)


def test_xqueue_is_what_the_lms_can_read():
    """Its `msg` has to parse as XML and its score to be a whole number, or the LMS drops the reply."""
    for name in CASES:
        rendering = render(case(name), "xqueue")
        if name == "infrastructure_error":
            assert (rendering.text, rendering.http_status) == ("", 503)
            continue
        body = json.loads(rendering.text)
        assert body.keys() == {"correct", "score", "msg"}
        assert type(body["correct"]) is bool
        assert type(body["score"]) is int
        assert ET.fromstring(body["msg"]).tag == "div"
    assert loaded("full", "xqueue") == {"correct": True, "score": 4} | {"msg": loaded("full", "xqueue")["msg"]}
    assert loaded("partial", "xqueue", points=100)["score"] == 37
    assert loaded("partial", "xqueue")["score"] == 1


def test_a_script_in_a_message_stays_a_text():
    message = ET.fromstring(loaded("hostile", "xqueue")["msg"])
    assert {element.tag for element in message.iter()} == {"div", "ul", "li"}
    assert "<script>alert(1)</script>" in "".join(message.itertext())


def test_lti_scores():
    score = loaded("partial", "lti-ags")
    assert (score["scoreGiven"], score["scoreMaximum"]) == (1.5, 4)
    assert (score["activityProgress"], score["gradingProgress"]) == ("Completed", "FullyGraded")
    assert loaded("zero", "lti-ags")["scoreGiven"] == 0
    assert loaded("zero", "lti-ags", submitted_at="2026-11-22T19:59:58Z")["submission"] == {
        "submittedAt": "2026-11-22T19:59:58Z"
    }
    for name in ("not_gradable", "infrastructure_error"):
        assert loaded(name, "lti-ags")["gradingProgress"] == "Failed"
        assert "scoreGiven" not in loaded(name, "lti-ags")


# ----------------------------------------------------------------------------------------------------- scripts

#: CodeRunner breaks a question whose combinator prints any other field.
COMBINATOR = {
    *("fraction", "prologuehtml", "testresults", "epiloguehtml", "feedbackhtml", "columnformats"),
    *("showdifferences", "showoutputonly", "graderstate", "instructorhtml"),
}


@pytest.mark.parametrize("name", CASES)
def test_coderunner_always_gets_json_that_it_knows(name):
    data = loaded(name, "coderunner")
    assert data.keys() <= COMBINATOR
    assert 0 <= data["fraction"] <= 1
    head, *rows = data["testresults"]
    assert len(data["columnformats"]) == len(set(head) - {"iscorrect", "ishidden"})
    for row in rows:
        assert len(row) == len(head)
        kinds = zip(head, row, strict=True)
        assert all(isinstance(cell, bool) == (title in ("iscorrect", "ishidden")) for title, cell in kinds)
    for html in (data["prologuehtml"], data["epiloguehtml"]):
        assert {e.tag for e in ET.fromstring(f"<div>{html}</div>").iter()} <= {"div", "p"}
    test = loaded(name, "coderunner", grader="template")
    assert test.keys() == {"fraction", "got", "abort"}
    assert test["abort"] is (CASES[name]["outcome"] != "graded")


def test_coderunner_hides_rows_by_itself():
    head, *rows = loaded("hidden", "coderunner")["testresults"]
    assert [row[head.index("ishidden")] for row in rows] == [False, True, True, True, True]


#: Whatever looks like CodeGrade's line, anywhere.
TAG = re.compile(r"\{[^{}]*[\"']tag[\"']\s*:[^{}]*\}")


@pytest.mark.parametrize("name", CASES)
def test_codegrade_finds_one_line_with_points(name):
    rendering = render(case(name), "codegrade")
    found = TAG.findall(rendering.text)
    if name == "infrastructure_error":
        assert (found, rendering.exit_status) == ([], 1)
        return
    (line,) = found
    assert rendering.text.splitlines()[-1] == line
    points = re.fullmatch(r"(\d+)/(\d+)", json.loads(line)["points"])
    assert int(points[1]) / int(points[2]) == pytest.approx(CASES[name]["fraction"])


def test_codegrade_keeps_whole_points_as_they_are():
    assert [loaded_points(name) for name in ("full", "hidden", "partial", "not_gradable")] == [
        "4/4",
        "3/5",
        "3/8",
        "0/4",
    ]
    assert loaded_points(report(check("a", 0.1, 0.3))) == "1/3"


def loaded_points(name):
    return json.loads(text(name, "codegrade").splitlines()[-1])["points"]


@pytest.mark.parametrize("name", CASES)
def test_autolab_reads_the_last_line(name):
    rendering = render(case(name), "autolab")
    lines = rendering.text.splitlines()
    if name == "infrastructure_error":
        assert not any(line.startswith("{") for line in lines)
        return
    assert json.loads(lines[-1]) == {"scores": {"Correctness": CASES[name]["score"]}}
    table = json.loads(lines[-2])
    assert table["_presentation"] == "semantic"
    assert all(isinstance(test["passed"], bool) for stage in table["stages"] for test in table[stage].values())
    assert not any("{" in line for line in lines[:-2])
    assert json.loads(text("full", "autolab", problem="Q3").splitlines()[-1]) == {"scores": {"Q3": 4}}


def test_autolab_has_a_row_for_each_check_though_titles_are_the_same():
    data = report(check("a", title="same"), check("b", 0, title="same"))
    assert json.loads(text(data, "autolab").splitlines()[-2])["Checks"].keys() == {"same", "same (b)"}


@pytest.mark.parametrize("name", CASES)
def test_submitty_reads_a_status(name):
    data = loaded(name, "submitty")
    if name == "infrastructure_error":
        assert data["status"] == "failure"
        assert "data" not in data
        return
    assert data["status"] == "success"
    assert 0 <= data["data"]["score"] <= 1
    statuses = {"information", "failure", "warning", "success"}
    assert {data["data"]["status"], *(message["status"] for message in data["data"]["message"])} <= statuses


COMMANDS = {"feedback-result", "feedback-grade", "feedback-msg", "feedback-custom"}


@pytest.mark.parametrize("name", CASES)
def test_inginious_runs_the_commands_and_no_others(name, tmp_path):
    for command in COMMANDS:
        (tmp_path / command).write_text(f'#!/bin/sh\nprintf "%s\\0" {command} "$@" >> "$LOG"\nprintf "\\n" >> "$LOG"\n')
        (tmp_path / command).chmod(0o755)
    log = tmp_path / "log"
    script = text(name, "inginious", problem="q1; reboot")
    done = subprocess.run(
        ["/bin/sh"], input=script.encode(), env={"PATH": str(tmp_path), "LOG": str(log)}, capture_output=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    calls = [call.split("\0") for call in log.read_text().split("\0\n") if call]
    results = {"full": "success", "infrastructure_error": "crash"}
    assert calls[0][:2] == ["feedback-result", results.get(name, "failed")]
    grade = next(call for call in calls if call[0] == "feedback-grade")
    expected = 100 * CASES[name]["fraction"] if CASES[name]["outcome"] == "graded" else 0
    assert float(grade[1]) == pytest.approx(expected)
    assert {call[0] for call in calls} == COMMANDS


def test_inginious_quotes_for_restructuredtext():
    message = next(words for words in map(shlex.split, [text("hostile", "inginious")]) if "feedback-msg" in words)
    body = message[message.index("-m") + 1]
    assert all(line.startswith("- ") for line in body.splitlines())
    assert not re.search(r"(?<!\\)[*`|]", body)
    assert ".. raw::" not in body


def test_coursera_gets_a_number():
    for name in CASES:
        data = loaded(name, "coursera")
        assert type(data["fractionalScore"]) is float
        assert 0 <= data["fractionalScore"] <= 1
        assert isinstance(data["feedback"], str)


# ----------------------------------------------------------------------------------------------------- records


def test_classroom50_has_whole_points():
    for name in CASES:
        result = loaded(name, "classroom50")
        assert result["schema"] == "classroom50/result/v1"
        assert {"classroom", "assignment", "usernames", "submission", "commit", "release", "review"} <= result.keys()
        numbers = [result["score"], result["max-score"]]
        numbers += [test[key] for test in result["tests"] for key in ("score", "max-score")]
        assert all(type(number) is int for number in numbers)
        assert all(test["score"] <= test["max-score"] for test in result["tests"])
    assert (result["usernames"], result["classroom"]) == (["ann"], "cs1")
    scaled = loaded("partial", "classroom50", points=10)
    assert (scaled["score"], scaled["max-score"]) == (3, 10)
    assert [(test["score"], test["max-score"]) for test in scaled["tests"]] == [(2, 3), (1, 5), (0, 2)]
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", json.loads(render(case("full"), "classroom50").text)["datetime"]
    )


def test_check50_tells_skipped_from_failed():
    results = loaded("partial", "check50", slug="us/q3")
    assert results["slug"] == "us/q3"
    assert [result["passed"] for result in results["results"]] == [True, False, False]
    for result in results["results"]:
        assert (result["cause"] is None) == (result["passed"] is True)
        assert not {"expected", "actual"} & (result["cause"] or {}).keys()
    (only,) = loaded("not_gradable", "check50")["results"]
    assert only["passed"] is None
    failed = loaded("infrastructure_error", "check50")
    assert "results" not in failed
    assert {"type", "value", "traceback", "data"} <= failed["error"].keys()


def test_junit_tells_the_students_failures_from_the_graders_errors():
    for name in CASES:
        suite = ET.fromstring(text(name, "junit"))
        cases = suite.findall("testcase")
        assert int(suite.get("tests")) == len(cases)
        assert int(suite.get("failures")) == len(suite.findall("testcase/failure"))
        assert int(suite.get("errors")) == len(suite.findall("testcase/error"))
        assert len({case.get("name") for case in cases}) == len(cases)
    assert suite.find("testcase/failure") is not None
    assert ET.fromstring(text("infrastructure_error", "junit")).find("testcase/error") is not None
    message = ET.fromstring(text("hostile", "junit")).find("testcase/failure").get("message")
    assert "<script>alert(1)</script>" in message


# ---------------------------------------------------------------------------------------------------- rounding


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.integers(0, 200))
def test_shares_are_whole_and_make_up_the_total(weights, total):
    """Within one of the exact share each, as the method of the largest remainder promises."""
    parts = share(total, weights)
    assert sum(parts) == (total if any(weights) else 0)
    for part, weight in zip(parts, weights, strict=True):
        exact = Fraction(total * weight, sum(weights)) if any(weights) else 0
        assert math.floor(exact) <= part <= math.ceil(exact)


def test_what_finds_no_room_under_the_caps_is_left_out():
    """The points of a group may be more than its checks'."""
    assert share(5, [1, 0], [2, 9]) == [2, 0]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=8), st.integers(1, 40))
def test_no_share_is_above_its_cap_and_nothing_comes_of_nothing(pairs, points):
    scores, maxima = zip(*((min(pair), pair[1]) for pair in pairs), strict=True)
    total, top = whole(sum(scores), sum(maxima), points)
    caps = share(top, maxima)
    parts = share(total, scores, caps)
    assert all(0 <= part <= cap for part, cap in zip(parts, caps, strict=True))
    assert all(part == 0 for part, score in zip(parts, scores, strict=True) if score == 0)
    assert sum(parts) <= total


@pytest.mark.parametrize(
    ("score", "most", "points", "expected"),
    [
        (3.5, 5, None, (3, 5)),
        (2.5, 2.5, None, (3, 3)),
        (0.7 + 0.1 + 0.2, 1, 100, (100, 100)),
        (0.29, 1, 100, (29, 100)),
        (0, 0, 10, (0, 10)),
        (1 / 3, 1, 3, (1, 3)),
    ],
)
def test_totals_are_rounded_down_but_for_the_noise_of_floats(score, most, points, expected):
    assert whole(score, most, points) == expected


# ------------------------------------------------------------------------------------------------------ texts


def test_a_mistake_stands_with_each_check_that_it_explains():
    data = report(check("a", 0, message="not correct"), check("b"), mistakes=[mistake("a", message="Sign flipped.")])
    assert [test["output"] for test in loaded(data, "gradescope")["tests"]] == [
        "not correct\nSign flipped.",
        "within tolerance",
    ]
    assert loaded(data, "check50")["results"][0]["cause"]["rationale"] == "not correct. Sign flipped."


def test_long_texts_and_lists_are_cut():
    data = report(check("a", 0, message="x" * 10**6, student=list(range(10_000))))
    assert len(text(data, "gradescope")) < 5000
    assert "[0, 1, 2, 3, 4, …] (10000 numbers)" in json.dumps(loaded(data, "coderunner"), ensure_ascii=False)
    named = report(check("a", of="parameters", student={"w": 1.0, "b": [2.0]}))
    assert "2 values" in text(named, "coderunner")


def test_hostile_texts_are_one_line():
    assert "\n" in HOSTILE
    for output in (test["name"] for test in loaded("hostile", "gradescope")["tests"]):
        assert len(output.splitlines()) == 1


def test_full_points_alone_are_not_full():
    # Followed through, or up to a cap: the points are there, and a check has not passed.
    followed = report(check("a"), check("b", passed=False))
    assert followed["score"] == followed["max_score"]
    assert not read(followed, "published").full
    assert read(report(check("a"), check("b")), "published").full
