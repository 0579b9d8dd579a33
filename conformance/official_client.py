"""The released Python client, unmodified, against a running server.

Environment: METAL_APIV2_URL, METAL_APIV2_TOKEN (an admin editor's token).
"""
import os

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from metalstack.admin.v2 import machine_pb2 as admin_machine_pb2
from metalstack.api.v2 import health_pb2, method_pb2, version_pb2
from metalstack.client.client import Client

URL = os.environ["METAL_APIV2_URL"]
HEADERS = {"Authorization": "Bearer " + os.environ["METAL_APIV2_TOKEN"]}
client = Client(baseurl=URL)
passed = 0


def check(name, condition, seen):
    global passed
    if not condition:
        raise SystemExit(f"FAILED {name}: {seen}")
    passed += 1
    print(f"ok {name}")


def code_of(call):
    try:
        call()
    except ConnectError as error:
        return error.code
    return None


api = client.apiv2()
version = api.version().get(version_pb2.VersionServiceGetRequest()).version
check("version needs no token", version.version != "", version)

health = api.health().get(health_pb2.HealthServiceGetRequest()).health
check("every part is healthy",
      {s.status for s in health.services} == {health_pb2.SERVICE_STATUS_HEALTHY}, health)

public = list(api.method().list(method_pb2.MethodServiceListRequest()).methods)
check("without a token only the public methods are listed", public == [
    "/metalstack.api.v2.HealthService/Get",
    "/metalstack.api.v2.MethodService/List",
    "/metalstack.api.v2.VersionService/Get",
], public)

everything = api.method().list(method_pb2.MethodServiceListRequest(), headers=HEADERS).methods
contract = [m for m in everything if m.startswith("/metalstack.")]
check("an admin editor may call all 152 methods of the contract", len(contract) == 152, len(contract))

scoped = method_pb2.MethodServiceTokenScopedListRequest()
code = code_of(lambda: api.method().token_scoped_list(scoped))
check("a self method without a token is refused", code == Code.UNAUTHENTICATED, code)
role = api.method().token_scoped_list(scoped, headers=HEADERS).admin_role
check("a token tells its own rights", role == 1, role)

forged = {"Authorization": HEADERS["Authorization"][:-6] + "AAAAAA"}
code = code_of(lambda: api.method().token_scoped_list(scoped, headers=forged))
check("a forged signature is refused", code == Code.UNAUTHENTICATED, code)

code = code_of(lambda: client.adminv2().machine().list(
    admin_machine_pb2.MachineServiceListRequest(), headers=HEADERS))
check("a method that is not built answers Unimplemented", code == Code.UNIMPLEMENTED, code)

print(f"{passed} passed, 0 failed")
