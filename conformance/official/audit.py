"""Who did what."""
import time

from . import check


def run(world):
    operator, alice = world.operator, world.alice
    # a fixed window, so that asking does not change the answer
    until = {"seconds": int(time.time()) + 1}
    time.sleep(1.1)
    query = {"method": "/metalstack.api.v2.ProjectService/Create", "to": until, "phase": "AUDIT_PHASE_RESPONSE"}
    listed = lambda: alice.api("AuditService/List", login=world.tenant, query=query).traces
    # what a replica recorded is stored a moment later
    check.eventually("what was done is recorded", lambda: len(listed()) == 2)
    mine = listed()
    check.equal("owners see what was done in their tenant", [(t.user, t.result_code) for t in mine], [("alice", 0), ("alice", 0)])
    one = alice.api("AuditService/Get", login=world.tenant, uuid=mine[0].uuid).trace
    check.true("a call has an entry for its request", check.named(one, "phase") == "REQUEST" and "rockets" in one.body, one)
    world.bob.refused("permission_denied", "api.v2.AuditService/List", login=world.tenant)
    secrets = operator.admin("AuditService/List", query={"method": "/metalstack.infra.v2.BootService/InstallationSucceeded", "to": until, "limit": 1000}).traces
    check.true("operators see what agents did", len(secrets) == 2, secrets)
    check.true("but no secret", all("s3cret" not in t.body for t in secrets), secrets)
    refused = operator.admin("AuditService/List", query={"result_code": 7, "user": "alice", "to": until}).traces
    check.true("what was refused is there too", "/metalstack.admin.v2.PartitionService/Delete" in {t.method for t in refused}, refused)
    trace = operator.admin("AuditService/Get", uuid=secrets[0].uuid, phase="AUDIT_PHASE_RESPONSE").trace
    check.equal("operators read one", (trace.uuid, check.named(trace, "phase")), (secrets[0].uuid, "RESPONSE"))
