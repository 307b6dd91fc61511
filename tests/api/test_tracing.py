"""Spans of requests, as a collector receives them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.conftest import ServerFactory

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """An OTLP/HTTP collector that keeps what it is sent."""

    def __init__(self) -> None:
        self.received: list[ExportTraceServiceRequest] = []
        kept = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                kept.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def spans(self) -> list[Span]:
        """All spans so far."""
        return [
            span
            for sent in self.received
            for resource in sent.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A running collector."""
    collector = Collector()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()


def facts(span: Span) -> dict[str, object]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


def test_a_request_is_a_span_with_its_stages_inside(
    start_server: ServerFactory, tiny_bundle: Path, collector: Collector
) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SERVICE_NAME": "embedder"}
    server = start_server(tiny_bundle, "--traces", env=env)
    before = time.time_ns()
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "mine"}
    server.client.post("/embed?layers=2&dim=8", json={"inputs": ["river", "secret"]}, headers=headers)
    server.client.post("/embed?layers=3", json={"inputs": "river"})
    server.client.get("/health")
    after = time.time_ns()
    assert server.stop() == 0, "what has not been sent is sent at the end"

    spans = collector.spans()
    first, refused = (span for span in spans if span.kind == Span.SPAN_KIND_SERVER)
    assert (first.name, first.trace_id.hex(), first.parent_span_id.hex()) == ("POST /embed", TRACE, PARENT)
    told = facts(first)
    assert (told["strata.layers"], told["strata.dim"], told["strata.texts"]) == (2, 8, 2)
    assert (told["http.response.status_code"], told["strata.request_id"]) == (200, "mine")
    assert before <= first.start_time_unix_nano <= first.end_time_unix_nano <= after

    stages = {span.name: span for span in spans if span.parent_span_id == first.span_id}
    assert set(stages) == {"receive", "tokenize", "queue", "inference"}
    for stage in stages.values():
        assert stage.trace_id == first.trace_id
        assert first.start_time_unix_nano <= stage.start_time_unix_nano <= stage.end_time_unix_nano
        assert stage.end_time_unix_nano <= first.end_time_unix_nano
    assert stages["tokenize"].end_time_unix_nano == stages["queue"].start_time_unix_nano

    assert facts(refused)["http.response.status_code"] == 422
    assert refused.status.code == Status.STATUS_CODE_UNSET, "the caller's fault is not an error of the server's span"
    assert b"secret" not in b"".join(sent.SerializeToString() for sent in collector.received)
    services = {a.value.string_value for sent in collector.received for r in sent.resource_spans
                for a in r.resource.attributes if a.key == "service.name"}  # fmt: skip
    assert services == {"embedder"}


def test_a_collector_that_is_away_costs_no_request_and_no_drain(start_server: ServerFactory, tiny_bundle: Path) -> None:
    server = start_server(tiny_bundle, "--traces", env={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"})
    assert server.client.post("/embed", json={"inputs": "river"}).status_code == 200
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 5


def test_without_the_extra_it_is_said_what_to_install(tiny_bundle: Path) -> None:
    hide = "import sys; sys.modules['opentelemetry.sdk'] = None\n"
    code = hide + "from strata.app.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-P", "-c", code, "serve", "--model", str(tiny_bundle), "--port", "0", "--traces"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "strata-embed[otel]" in done.stderr
