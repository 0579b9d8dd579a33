"""What curl and browsers send: JSON over HTTP/1.1, written by a human or by a page of another origin."""
import json
import urllib.error
import urllib.request

from . import check


def post(world, method, body, token):
    request = urllib.request.Request(f"{world.url}/metalstack.{method}", data=body.encode(), method="POST",
                                     headers={"Content-Type": "application/json", "Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def browser(world):
    """The official JavaScript client calls from a page: the browser asks first."""
    url = f"{world.url}/metalstack.api.v2.VersionService/Get"
    asked = urllib.request.Request(url, method="OPTIONS", headers={
        "Origin": "https://ui.example.com", "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,connect-protocol-version,connect-timeout-ms,content-type"})
    with urllib.request.urlopen(asked, timeout=60) as answer:
        check.equal("a page of another origin may call", (answer.headers["Access-Control-Allow-Origin"], "authorization" in answer.headers["Access-Control-Allow-Headers"]),
                    ("*", True))
    call = urllib.request.Request(url, data=b"{}", method="POST", headers={"Origin": "https://ui.example.com", "Content-Type": "application/json"})
    with urllib.request.urlopen(call, timeout=60) as answer:
        check.equal("and read the answer", answer.headers["Access-Control-Allow-Origin"], "*")


def run(world):
    browser(world)
    operator = world.operator.token
    for body in ['{"query": {"notAllocated": true}}', '{"query": {"not_allocated": true}}']:
        status, answer = post(world, "admin.v2.MachineService/List", body, operator)
        check.equal(f"{body} is understood", (status, len(answer["machines"])), (200, 3))
    status, answer = post(world, "admin.v2.SwitchService/List", "{}", operator)
    check.equal("enums are names, keys are camel case", (status, answer["switches"][0]["os"]["vendor"], answer["switches"][0]["managementIp"]),
                (200, "SWITCH_OS_VENDOR_CUMULUS", "10.1.1.1"))
    status, answer = post(world, "admin.v2.MachineService/Get", '{"uuid": "00000000-0000-4000-8000-00000000dead"}', operator)
    check.equal("errors have a code and a sentence", (status, answer["code"], "00000000-0000-4000-8000-00000000dead" in answer["message"]), (404, "not_found", True))
    status, answer = post(world, "admin.v2.MachineService/Get", '{"uuid": 7}', operator)
    check.equal("what is no message of the contract is refused", (status, answer["code"]), (400, "invalid_argument"))
    status, answer = post(world, "admin.v2.MachineService/Get", '{"uuid": "x"}', operator)
    check.equal("so is what breaks its rules", (status, answer["code"]), (400, "invalid_argument"))
    status, answer = post(world, "admin.v2.MachineService/List", "{}", "")
    check.equal("and who has no token", (status, answer["code"]), (401, "unauthenticated"))
