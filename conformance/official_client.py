"""The released Python client, unmodified, against a running server.

Environment: METAL_APIV2_URL, METAL_APIV2_TOKEN (an admin editor's token).
"""
import os

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from metalstack.admin.v2 import machine_pb2 as admin_machine_pb2
from metalstack.admin.v2 import network_pb2 as admin_network_pb2
from metalstack.admin.v2 import partition_pb2 as admin_partition_pb2
from metalstack.api.v2 import (
    health_pb2, ip_pb2, machine_pb2, method_pb2, network_pb2, partition_pb2, project_pb2, tenant_pb2, version_pb2,
)
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

admin = client.adminv2()

code = code_of(lambda: admin.machine().get(
    admin_machine_pb2.MachineServiceGetRequest(uuid="no uuid"), headers=HEADERS))
check("a request that breaks the contract's rules is refused", code == Code.INVALID_ARGUMENT, code)
code = code_of(lambda: admin.machine().get(
    admin_machine_pb2.MachineServiceGetRequest(uuid="00000000-0000-4000-8000-000000000000"), headers=HEADERS))
check("what does not exist is not found", code == Code.NOT_FOUND, code)
machines = admin.machine().list(admin_machine_pb2.MachineServiceListRequest(), headers=HEADERS).machines
check("there are no machines yet", len(machines) == 0, machines)

partition = admin.partition().create(admin_partition_pb2.PartitionServiceCreateRequest(
    partition=partition_pb2.Partition(id="fra-1", description="first")), headers=HEADERS).partition
check("a partition is created", partition.id == "fra-1", partition)
tenant = api.tenant().create(tenant_pb2.TenantServiceCreateRequest(name="Acme"), headers=HEADERS).tenant
project = api.project().create(project_pb2.ProjectServiceCreateRequest(
    login=tenant.login, name="rockets", description="fast ones"), headers=HEADERS).project
check("a project of a new tenant is created", project.tenant == tenant.login, project)
super_network = admin.network().create(admin_network_pb2.NetworkServiceCreateRequest(
    id="super", type=network_pb2.NETWORK_TYPE_SUPER, partition="fra-1", prefixes=["10.0.0.0/16"],
    default_child_prefix_length=network_pb2.ChildPrefixLength(ipv4=22)), headers=HEADERS).network
network = api.network().create(network_pb2.NetworkServiceCreateRequest(
    project=project.uuid, partition="fra-1", name="private"), headers=HEADERS).network
check("a private network is carved out of the super network",
      (network.parent_network, list(network.prefixes)) == (super_network.id, ["10.0.0.0/22"]), network)
ip = api.ip().create(ip_pb2.IPServiceCreateRequest(project=project.uuid, network=network.id), headers=HEADERS).ip
check("an address is taken", ip.ip == "10.0.0.1", ip)
code = code_of(lambda: api.network().delete(
    network_pb2.NetworkServiceDeleteRequest(project=project.uuid, id=network.id), headers=HEADERS))
check("a network with addresses stays", code == Code.FAILED_PRECONDITION, code)
api.ip().delete(ip_pb2.IPServiceDeleteRequest(project=project.uuid, ip=ip.ip), headers=HEADERS)
api.network().delete(network_pb2.NetworkServiceDeleteRequest(project=project.uuid, id=network.id), headers=HEADERS)
api.project().delete(project_pb2.ProjectServiceDeleteRequest(project=project.uuid), headers=HEADERS)
left = api.project().list(project_pb2.ProjectServiceListRequest(), headers=HEADERS).projects
check("what is deleted is gone", project.uuid not in [p.uuid for p in left], left)
code = code_of(lambda: api.machine().create(machine_pb2.MachineServiceCreateRequest(
    project=project.uuid, name="node", partition="fra-1", size="c1", image="debian-12",
    networks=[machine_pb2.MachineAllocationNetwork(network="super")],
    allocation_type=machine_pb2.MACHINE_ALLOCATION_TYPE_MACHINE), headers=HEADERS))
check("no machine for a project that is gone", code == Code.NOT_FOUND, code)

print(f"{passed} passed, 0 failed")
