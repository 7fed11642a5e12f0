from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.replay.turns.claims import claims, is_test_runner


@pytest.mark.parametrize(
    "text",
    [
        "All tests pass.",
        "The tests are passing now.",
        "I ran the test suite with pytest and all 4 tests pass, including `test_x`.",
        "I have run the unit tests.",
        "Ran the full test suite: 12 passed, 0 errors.",
        "All 14 existing tests passed successfully!",
        "The existing tests continue to pass.",
        "Verified with the unit tests.",
        "I verified by running pytest that it works.",
        "The test suite is green.",
        "Tests: passed",
        "Done! ✅ 23 tests passed",
    ],
)
def test_hears_a_claim_of_tests(text: str) -> None:
    assert [claim.kind for claim in claims(text)][:1] == ["tests"]


@pytest.mark.parametrize(
    "text",
    [
        "Let me run the tests.",
        "I will run the test suite next.",
        "Now let's make sure all tests pass.",
        "The tests should pass now.",
        "I could not run the tests.",
        "The tests were not run.",
        "I haven't run the tests.",
        "If the tests pass, I will commit.",
        "Please check that the tests pass.",
        "You can run the tests with pytest.",
        "I was unable to run the tests because pytest is not installed.",
        "No tests were run.",
        "To verify, run the tests.",
        "The task says that all tests must pass.",
        "2 tests failed.",
        "I fixed the bug and committed the change.",
        "The file tests/test_pricing.py has four cases.",
        "",
    ],
)
def test_plans_conditions_and_denials_are_no_claims(text: str) -> None:
    assert list(claims(text)) == []


def test_tells_having_run_from_having_passed() -> None:
    assert [claim.passed for claim in claims("I ran the tests.")] == [False]
    assert [claim.passed for claim in claims("All tests pass.")] == [True]


def test_hears_a_claim_of_a_command() -> None:
    (claim,) = claims("I ran `FOO=1 npm run build` and it works.")
    assert (claim.kind, claim.program) == ("command", "npm")
    assert list(claims("I will run: then I would have executed `npm ci`.")) == []


@pytest.mark.parametrize(
    "argv",
    [
        "pytest -q",
        "/venv/bin/python -m pytest",
        "/venv/bin/python /venv/bin/pytest tests",
        "python3.11 -m unittest discover",
        "python3 manage.py test",
        "python -m tox",
        "nox -s tests",
        "npm test",
        "npm run test:unit",
        "node /x/node_modules/.bin/jest",
        "npx vitest run",
        "go test ./...",
        "cargo test --all",
        "make test",
        "make check",
        "ctest",
        "mvn -q test",
        "./gradlew test",
        "vendor/bin/phpunit",
        "ruby bin/rspec",
        "bash run_tests.sh",
        "./run-tests.sh",
        "python tests/test_pricing.py",
        "uv run pytest",
        "coverage run -m pytest",
    ],
)
def test_knows_programs_that_run_tests(argv: str) -> None:
    assert is_test_runner(argv.split())


@pytest.mark.parametrize(
    "argv",
    [
        ["sh", "-c", "pytest -q"],
        ["bash", "-lc", "make test"],
        ["cat", "tests/test_pricing.py"],
        ["test", "-f", "x"],
        ["/usr/bin/test", "-f", "x"],
        ["pip", "install", "pytest"],
        ["git", "add", "tests"],
        ["make", "all"],
        ["npm", "install"],
        ["echo", "pytest"],
        ["python3", "-c", "print('tests pass')"],
        ["python3", "-"],
        ["python3"],
        ["ls", "test"],
        [],
    ],
)
def test_does_not_take_other_programs_for_them(argv: list[str]) -> None:
    assert not is_test_runner(argv)


def test_an_interpreter_whose_code_calls_a_runner_runs_tests() -> None:
    assert is_test_runner(["python3", "-c", "import pytest; pytest.main()"])


@given(st.text(max_size=300))
def test_no_text_raises(text: str) -> None:
    list(claims(text))


@given(st.lists(st.text(max_size=12), max_size=8))
def test_no_argv_raises(argv: list[str]) -> None:
    is_test_runner(argv)


def test_a_long_text_is_read_in_good_time() -> None:
    list(claims("tests are were was " * 20_000))
    list(claims("the of my our its " * 20_000 + "tests"))
    list(claims("I verified " + "a " * 100_000))
