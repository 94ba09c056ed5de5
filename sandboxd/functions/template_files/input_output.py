"""Grades a program by what it prints for some inputs.

The verdict is `{"tid", "status": "success"|"failed", "feedback": {"message"?, "example"?:
{"input", "expected", "actual"}, "stats": {"succeeded", "total"}, "score"}}`. The example is of the
first test that failed; the message is that test's own, or the compiler's words.
"""

from typing import Any

import grading  # type: ignore[import-not-found] # it is beside this one


def grade() -> None:
    (tid, fields), config = grading.begin("test.json")
    language = config["language.json"]
    text = grading.fill(language["skeleton"], fields)
    first = language.get("begins_with", "")
    if first and first.split()[0] not in text.split():
        text = first + text
    place = grading.directory()
    grading.write(place, language["file"], text)
    tests = config["test.json"]["predefined"]
    env = language.get("env")
    feedback: dict[str, Any] = {}
    if "compile" in language:
        ended = grading.run(language["compile"], place, env=env)
        if ended.status:
            feedback |= {
                "message": ended.words(),
                "stats": {"succeeded": 0, "total": len(tests)},
                "score": 0,
            }
            grading.verdict(tid, "failed", feedback)
            return
    succeeded = 0
    for test in tests:
        ended = grading.run(language["run"], place, test["input"], env)
        actual = ended.words() if ended.status else ended.stdout
        if not ended.status and actual == test["output"]:
            succeeded += 1
        elif "example" not in feedback:
            if not ended.status and test.get("message"):
                feedback["message"] = test["message"]
            feedback["example"] = {
                "input": test["input"],
                "expected": test["output"],
                "actual": actual,
            }
    feedback["stats"] = {"succeeded": succeeded, "total": len(tests)}
    feedback["score"] = grading.score(succeeded, len(tests))
    grading.verdict(tid, "success" if succeeded == len(tests) else "failed", feedback)


grading.main(grade)
