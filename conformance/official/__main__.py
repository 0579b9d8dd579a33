"""`python -m official`: see docs/conformance.md."""
import argparse
import time

import server

from . import (audit, boot, caller, check, component, filesystem, image, ip, json_by_hand, machine, network, partition, project, public, size,
               size_imageconstraint, switch, tenant, token, vpn)
from .transports import OFFICIAL, methods
from .world import World

# in this order: what comes later uses what came before
STORY = [public.run, tenant.run, project.run, token.run, partition.run, size.run, image.run, filesystem.run, size_imageconstraint.run,
         network.run, ip.run, component.run, switch.run, boot.run, machine.reserve, machine.run, machine.forget, json_by_hand.run,
         switch.migrate, audit.run, vpn.run]


def main():
    arguments = argparse.ArgumentParser(prog="official", description="The official Python client against a running server.")
    arguments.add_argument("--protocol", choices=OFFICIAL, default="connect", help="how the calls are made (default: %(default)s)")
    arguments.add_argument("--agree", action="store_true", help="repeat reads and refused calls over every other protocol and compare the answers")
    arguments.add_argument("--engine", choices=["sqlite", "postgres"], default="sqlite", help="the database of the server (default: %(default)s)")
    arguments.add_argument("--replicas", type=int, default=1, help="so many servers on one PostgreSQL, asked in turns (default: %(default)s)")
    options = arguments.parse_args()
    if options.replicas > 1 and options.engine == "sqlite":
        arguments.error("SQLite has one server: use --engine postgres")
    began = time.monotonic()
    with server.running(options.engine, options.replicas) as (urls, database):
        world = World(urls, database, options.protocol, options.agree)
        for chapter in STORY:
            chapter(world)
    missing = sorted(set(methods()) - caller.called)
    check.equal("every method of the contract was called", missing, [])
    if options.agree:
        check.true("every protocol was compared", all(n >= 100 for p, n in caller.compared.items() if p != options.protocol), caller.compared)
        print("answers compared: " + ", ".join(f"{p} {n}" for p, n in caller.compared.items() if n) + f"; errors compared: {caller.errors_compared}")
    print(f"{len(caller.called)} methods over {options.protocol}, {check.passed} checks passed, 0 failed, {time.monotonic() - began:.1f} s")


main()
