"""The description of the routes is true, and no request that can be made of it is answered with a 5xx."""

import subprocess
import sys
from pathlib import Path

import httpx

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "unsupported_method",
    "negative_data_rejection",
)
SAME = "invocations|v1/|serving"
"""Other paths of routes that are tested already."""


def test_requests_made_of_it(url: str, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json"]
    options = ["--phases", "examples,coverage,fuzzing", "--max-examples", "5", "--exclude-path-regex", SAME]
    options += ["--generation-database", "none", "--suppress-health-check", "all", "--warnings", "off", "--no-color"]
    done = subprocess.run(
        [*command, "--checks", ",".join(CHECKS), *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr


def test_it_tells_of_no_status_that_is_never_sent(url: str) -> None:
    described = httpx.get(f"{url}/openapi.json").json()["paths"]
    assert {"/responses", "/v1/responses", "/serving-endpoints/{name}/invocations", "/threads"} <= set(described)
    statuses = {status for path in described.values() for route in path.values() for status in route["responses"]}
    assert "422" not in statuses
    assert {"400", "404", "409", "413", "429", "502", "503", "504"} <= set(described["/responses"]["post"]["responses"])
