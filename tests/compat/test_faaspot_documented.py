"""FaaSpot's documentation: its `curl` lines as typed in a shell; the URL is this gateway's."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from compat.faaspot import ECHO, Faaspot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from compat.gateway import Gateway
    from sandboxd_client import Client

TEMPLATE = """
def main(args, context):
    return ''
"""
CONTEXT = """
access_key_is = "XYZ"
secret_access_key = "123"
"""


@pytest.fixture
def faaspot(gateway: Gateway, client: Client) -> Iterator[Faaspot]:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    faaspot = Faaspot(gateway, client)
    yield faaspot
    faaspot.clean()
    faaspot.close()


def shell(faaspot: Faaspot, text: str) -> str:
    """What the lines print; MY_API_TOKEN, MY_TOKEN and URL are what they stand for."""
    for name in ("MY_API_TOKEN", "MY_TOKEN"):
        text = text.replace(name, faaspot.key)
    text = text.replace("URL/", f"{faaspot.gateway.url}/v1/").replace("curl ", "curl -sS ")
    done = subprocess.run(
        ["bash", "-c", text], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def encoded(text: str) -> str:
    """`quote(str_to_encode.encode("utf-8"))`."""
    return quote(text.encode("utf-8"))


def value(faaspot: Faaspot, text: str) -> Any:
    return json.loads(shell(faaspot, text))


def create(faaspot: Faaspot, code: str, context: str) -> str:
    text = """
curl -X PUT --header "Authorization: Token MY_TOKEN" --header "Content-Type: application/json" \\
--data '{"name": "FUNCTION_NAME", "code": "THE_CODE", "context": "THE_CONTEXT"}' URL/functions/
"""
    text = text.replace("THE_CODE", encoded(code)).replace("THE_CONTEXT", encoded(context))
    return str(value(faaspot, text))


def test_a_function_is_created(faaspot: Faaspot) -> None:
    id = create(faaspot, TEMPLATE, CONTEXT)
    assert faaspot.ended(id)["status"] == "Success"
    line = 'curl -X GET --header "Authorization: Token MY_API_TOKEN" '
    assert value(faaspot, f"{line} URL/sync/functions/FUNCTION_NAME/rpc/") == ""


def test_a_function_is_run_in_a_blocking_way(faaspot: Faaspot) -> None:
    create(faaspot, ECHO, CONTEXT)
    text = """
curl -X GET --header "Authorization: Token MY_API_TOKEN" \\
"URL/sync/functions/FUNCTION_NAME/rpc/?PARAMETER_1=VALUE_1&PARAMETER_2=VALUE_2"
"""
    assert value(faaspot, text) == {
        "args": {"PARAMETER_1": "VALUE_1", "PARAMETER_2": "VALUE_2"},
        "context": {"access_key_is": "XYZ", "secret_access_key": "123"},
    }


def test_a_function_is_run_in_a_non_blocking_way(faaspot: Faaspot) -> None:
    create(faaspot, ECHO, "")
    text = """
EXECUTION_ID_STR=`curl --header "Authorization: Token MY_API_TOKEN" \\
"URL/functions/FUNCTION_NAME/rpc/?PARAMETER=VALUE"`
EXECUTION_ID=`sed -e 's/^"//' -e 's/"$//' <<< "$EXECUTION_ID_STR"`
curl --header "Authorization: Token MY_API_TOKEN" URL/executions/$EXECUTION_ID
"""
    execution = value(faaspot, text)
    assert execution.keys() == {"created", "name", "output", "status", "uuid"}
    ended = faaspot.ended(execution["uuid"])
    assert ended["output"] == {"args": {"PARAMETER": "VALUE"}, "context": {}}


def test_a_function_is_run_with_the_parameters_in_the_body(faaspot: Faaspot) -> None:
    create(faaspot, ECHO, "")
    text = """
curl -X POST --header "Content-Type: application/json" \\
--header "Authorization: Token MY_API_TOKEN" \\
 -d '{"PARAMETER_1": "VALUE_1", "PARAMETER_2": "VALUE_2"}' URL/functions/FUNCTION_NAME/rpc/
"""
    ended = faaspot.ended(value(faaspot, text))
    assert ended["output"]["args"] == {"PARAMETER_1": "VALUE_1", "PARAMETER_2": "VALUE_2"}


def test_a_bulk_run(faaspot: Faaspot) -> None:
    create(faaspot, ECHO, "")
    text = """
curl -X POST --header "Content-Type: application/json" \\
--header "Authorization: Token MY_API_TOKEN" \\
 -d '[{"k1": "v1", "k2": "v2"}, {"k3": "v3", "k4": "v4"}]' URL/functions/FUNCTION_NAME/bulk_rpc/
"""
    args = [faaspot.ended(id)["output"]["args"] for id in value(faaspot, text)]
    assert args == [{"k1": "v1", "k2": "v2"}, {"k3": "v3", "k4": "v4"}]


def test_a_function_is_deleted(faaspot: Faaspot) -> None:
    create(faaspot, TEMPLATE, "")
    line = 'curl -X DELETE --header "Authorization: Token MY_API_TOKEN" URL/functions/FUNCTION_NAME'
    assert value(faaspot, line)["uuid"]
    faaspot.refused(404, "GET", "functions/FUNCTION_NAME")


def test_what_is_not_said_to_be_json(faaspot: Faaspot) -> None:
    """curl says that its data are a form's, unless told."""
    create(faaspot, ECHO, "")
    text = """
curl --header "Authorization: Token MY_API_TOKEN" -d '{"a": 1}' \\
URL/sync/functions/FUNCTION_NAME/rpc/
"""
    assert value(faaspot, text)["args"] == {"a": 1}
