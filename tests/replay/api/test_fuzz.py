"""Whatever is asked, the API answers: no question makes the server fail."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

odd = st.one_of(
    st.text(max_size=30),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(
        ["", "0", "-1", "s1", "0.0", "1.5", "file.", "unexplained", "%00", "../../etc/passwd", "9" * 30, "null"]
    ),
)


def paths(document: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    return [(path, methods["get"].get("parameters", [])) for path, methods in document["paths"].items()]


@QUIET
@given(st.data())
def test_no_question_makes_it_fail(api: TestClient, data: st.DataObject) -> None:
    path, parameters = data.draw(st.sampled_from(paths(api.get("/openapi.json").json())), label="path")
    query = {}
    for parameter in parameters:
        value = data.draw(odd, label=parameter["name"])
        if parameter["in"] == "path":
            path = path.replace("{" + parameter["name"] + "}", quote(value or "x", safe=""))
        elif data.draw(st.booleans()):
            query[parameter["name"]] = value
    answer = api.get(path, params=query)
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code


@QUIET
@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_no_path_makes_it_fail(api: TestClient, path: str) -> None:
    assert api.get("/" + quote(path)).status_code < 500
