"""The OpenAPI document, and schemathesis, which tries to break what it promises."""

from __future__ import annotations

import json

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from serving.http.server import Server

from recblr.serving.http.app import ROUTES

OPERATIONS = [(path, method) for path, route in ROUTES.items() for method in route.methods]
EXAMPLES = 60


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=["right", "wrong"])
def test_the_server_keeps_what_its_document_promises(
    server: Server, path: str, method: str, mode: GenerationMode
) -> None:
    document = schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")
    operation = document[path][method]
    has_input = operation.body or operation.query or operation.path_parameters
    if mode is GenerationMode.NEGATIVE and not has_input:
        pytest.skip("nothing can be wrong in a request without parameters")

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(generation_mode=mode))
    def holds(case: schemathesis.Case) -> None:
        answer = case.call()
        if answer.status_code == 413:  # nothing was read
            return
        # The document cannot say which items there are, or that times must not fall.
        case.validate_response(answer, excluded_checks=[positive_data_acceptance])

    holds()
    assert server.process.poll() is None
    assert "Traceback" not in server.errors()


def test_the_document_has_every_route(server: Server) -> None:
    document = server.ask("GET", "/openapi.json").json
    assert document["paths"].keys() == ROUTES.keys()
    text = json.dumps(document)
    for schema in document["components"]["schemas"]:
        assert f"#/components/schemas/{schema}" in text
    assert text.count("$ref") > 20
    assert "security" not in text  # this server has no token
