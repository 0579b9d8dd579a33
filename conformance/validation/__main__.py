"""`python -m validation`: see docs/conformance.md."""
import argparse
import json
import pathlib
import sys
import time

from buf.validate import validate_pb2
from google.protobuf import json_format

import server
from official.transports import Refused, Transport, message, methods

from . import generate

# Whatever the message, the server never answers one of these.
OUR_FAULT = {"internal", "unknown", "unimplemented", "data_loss", "unavailable", "deadline_exceeded"}
# The server tells no more than fits into the headers of gRPC: so many violations fit in any case.
TOLD = 10
HAND_WRITTEN = pathlib.Path(__file__).parent / "edges.jsonl"


def hand_written():
    """Messages in which several rules meet, and what a human expects of them."""
    for number, line in enumerate(HAND_WRITTEN.read_text().splitlines(), 1):
        case = json.loads(line)
        path = f"/metalstack.{case['method']}"
        request = json_format.ParseDict(case["request"], message(methods()[path].input_type)())
        broken = generate.violations(request)
        if bool(broken) == case["valid"]:
            raise SystemExit(f"FAILED {HAND_WRITTEN.name}:{number}: valid should be {case['valid']}, protovalidate says {broken}")
        yield path, request


def verdict(transport, path, request, refusal):
    """What the server's validators say: the broken rules, nothing when the request came through to the handler. A stream that is
    opened may say nothing, so a refusal is waited for only where one must come."""
    try:
        streams = methods()[path].server_streaming
        answer = transport.call(path, request, timeout_ms=(60_000 if refusal else 300) if streams else None)
        if streams:
            next(answer, None)
    except Refused as refused:
        if streams and refused.code == "deadline_exceeded":
            # it was opened, and had nothing to tell
            return []
        if refused.code in OUR_FAULT:
            return [f"{refused.code}: {refused.text}"]
        details = [value for kind, value in refused.details if kind == "buf.validate.Violations"]
        if refused.code == "invalid_argument" and details:
            found = validate_pb2.Violations.FromString(details[0]).violations
            return sorted(f"{generate.path(v.field)} {v.rule_id}" + (" (key)" if v.for_key else "") for v in found)
    return []


def agree(expected, seen):
    """The same rules are broken; of very many the server tells the first ones."""
    return seen == expected or len(expected) > len(seen) >= TOLD and set(seen) <= set(expected)


def main():
    arguments = argparse.ArgumentParser(prog="validation", description="Verdicts of the server against those of the Python package protovalidate.")
    arguments.add_argument("--seed", type=int, default=20261121)
    arguments.add_argument("--count", type=int, default=2000, help="so many generated messages (default: %(default)s)")
    options = arguments.parse_args()
    began = time.monotonic()
    cases = [*hand_written(), *generate.messages(options.seed, options.count)]
    differing, broken_rules, refused = [], set(), 0
    with server.running() as (urls, database):
        # rights stand before validation: an operator and agent has all
        transport = Transport(urls[0], server.token(database, "operator", "--admin-role", "editor"), "connect")
        for path, request in cases:
            expected = generate.violations(request)
            refused += bool(expected)
            broken_rules.update(violation.split(" ", 1)[1] for violation in expected)
            seen = verdict(transport, path, request, bool(expected))
            if not agree(expected, seen):
                differing.append((path, request, expected, seen))
    for path, request, expected, seen in differing[:40]:
        short = json_format.MessageToJson(request, indent=None)
        print(f"DIFFERS {path} {short[:400]}{'…' * (len(short) > 400)}\n  protovalidate {expected}\n  server        {seen}")
    if differing:
        sys.exit(f"FAILED {len(differing)} of {len(cases)} verdicts differ (seed {options.seed})")
    print(f"{len(cases)} verdicts agree, {len(cases) - refused} valid and {refused} invalid, {len(broken_rules)} kinds of rules broken, {time.monotonic() - began:.1f} s")


main()
