//! What users and operators do with machines beside allocating them.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::hall::Hall;
use crate::world::{on_all, text};

const WAIT: &str = "/metalstack.infra.v2.BMCService/WaitForBMCCommand";
/// Who lost the stream after a command has so long to say that it is done, before it is told again.
const GRACE: Duration = Duration::from_secs(5);
/// Without that it would be told again after this.
const LEASE: Duration = Duration::from_secs(60);

#[test]
fn an_allocation_is_changed_and_found() {
    on_all(|world| {
        let hall = Hall::new(world);
        hall.rack("r1", 4);
        let _waiting = (hall.machine("r1", 1), hall.machine("r1", 2));
        let machine =
            hall.allocate(json!({"userdata": "aGVsbG8=", "labels": {"labels": {"a": "1"}}}));
        let uuid = text(&machine["uuid"]);
        let update = |lock: serde_json::Value| {
            json!({"uuid": uuid, "project": hall.project, "description": "new", "updateMeta": lock,
            "labels": {"patch": {"update": {"labels": {"b": "2"}}}}})
        };
        let stale = update(json!({"updatedAt": "2020-01-01T00:00:00Z"}));
        world.expect("aborted", &hall.user, "api.v2.MachineService/Update", stale);
        let changed = world.ok(
            &hall.user,
            "api.v2.MachineService/Update",
            update(json!({"updatedAt": machine["meta"]["updatedAt"]})),
        );
        let allocation = &changed["machine"]["allocation"];
        assert_eq!(allocation["description"], "new");
        assert_eq!(allocation["meta"]["labels"]["labels"], json!({"a": "1", "b": "2"}));

        let list = |query: serde_json::Value| {
            let answer = world.ok(
                &hall.user,
                "api.v2.MachineService/List",
                json!({"project": hall.project, "query": query}),
            );
            answer["machines"].as_array().map_or(0, Vec::len)
        };
        assert_eq!(list(json!({})), 1, "the free one is not the project's");
        assert_eq!(
            list(json!({"allocation": {"hostname": "host1", "labels": {"labels": {"b": "2"}}}})),
            1
        );
        assert_eq!(list(json!({"allocation": {"hostname": "host2"}})), 0);
        assert_eq!(list(json!({"network": {"ips": ["10.0.0.1"], "networks": [hall.network]}})), 1);
        assert_eq!(list(json!({"network": {"ips": ["10.0.0.2"]}})), 0);
        assert_eq!(
            list(
                json!({"hardware": {"cpuCores": 4}, "disk": {"names": ["/dev/nvme0n1"]}, "nic": {"neighborNames": [machine["hardware"]["nics"][0]["neighbors"][0]["name"]]}})
            ),
            1
        );
        assert_eq!(list(json!({"state": "MACHINE_STATE_LOCKED"})), 0);
        let admin = |query: serde_json::Value| {
            hall.op("MachineService/List", json!({"query": query}))["machines"]
                .as_array()
                .map_or(0, Vec::len)
        };
        assert_eq!(admin(json!({})), 2);
        assert_eq!(admin(json!({"waiting": true})), 1);
        assert_eq!(admin(json!({"notAllocated": true})), 1);
        assert_eq!(admin(json!({"partition": "p2"})), 0);

        // viewers do not read user data, where secrets may be
        let viewer = world.login("victor");
        world.project_member(&hall.user, &hall.project, "victor", "VIEWER");
        let request = json!({"uuid": uuid, "project": hall.project});
        let seen = |token: &str| {
            world.ok(token, "api.v2.MachineService/Get", request.clone())["machine"]["allocation"]["userdata"].clone()
        };
        assert_eq!(seen(&hall.user), "aGVsbG8=");
        assert!(seen(&viewer).is_null());
    });
}

#[test]
fn states_go_through_available() {
    on_all(|world| {
        let hall = Hall::new(world);
        hall.rack("r1", 4);
        let waiting = hall.machine("r1", 1);
        let set = |state: &str, description: &str| {
            let request = json!({"uuid": waiting.uuid, "state": format!("MACHINE_STATE_{state}"), "description": description});
            world
                .call(&hall.admin, "admin.v2.MachineService/SetState", request)
                .map(|answer| answer["machine"]["status"]["condition"].clone())
        };
        let locked = set("LOCKED", "broken fan").expect("locked");
        assert_eq!(
            locked,
            json!({"state": "MACHINE_STATE_LOCKED", "description": "broken fan", "issuer": "operator"})
        );
        assert_eq!(set("TAINTED", "no").expect_err("not from locked").0, "failed_precondition");
        assert_eq!(set("AVAILABLE", "why").expect_err("no description").0, "invalid_argument");
        assert_eq!(set("UNSPECIFIED", "").expect_err("no state").0, "invalid_argument");
        set("AVAILABLE", "").expect("available");
        let machine = hall.allocate(json!({}));
        set("LOCKED", "evidence").expect("locked");
        let request = json!({"uuid": machine["uuid"], "project": hall.project});
        world.expect("failed_precondition", &hall.user, "api.v2.MachineService/Delete", request);
    });
}

#[test]
fn commands_go_to_the_bmc_in_order_and_once() {
    on_all(|world| {
        let hall = Hall::new(world);
        hall.rack("r1", 4);
        let waiting = hall.machine("r1", 1);
        hall.allocate(json!({}));
        let command = |command: &str| {
            let request = json!({"uuid": waiting.uuid, "project": hall.project, "command": format!("MACHINE_BMC_COMMAND_{command}")});
            world
                .call(&hall.user, "api.v2.MachineService/BMCCommand", request)
                .map(|answer| text(&answer["taskId"]))
        };
        assert_eq!(command("ON").expect_err("no BMC").0, "failed_precondition");
        let bmc = json!({"partition": "p1", "bmcReports": [{"uuid": waiting.uuid, "bmc": {"address": "10.2.0.1:623", "mac": "00:00:00:00:00:01", "user": "root", "password": "secret"}}]});
        assert_eq!(
            hall.infra("BMCService/UpdateBMCInfo", bmc)["updatedMachines"],
            json!([waiting.uuid])
        );
        let tasks = [command("OFF").expect("task"), command("ON").expect("task")];
        let next =
            || world.open_stream(&hall.agent, WAIT, &json!({"partition": "p1"})).expect("a stream");
        let first = next();
        assert_eq!(
            (&first["commandId"], &first["bmcCommand"]),
            (&json!(tasks[0]), &json!("MACHINE_BMC_COMMAND_OFF"))
        );
        let second = world.glance_at_stream(&hall.agent, WAIT, &json!({"partition": "p1"}));
        assert_eq!(second, Ok(json!(null)), "the second waits for the first");
        let state = |task: &str| {
            text(&hall.op("TaskService/Get", json!({"taskId": task}))["task"]["state"])
        };
        assert_eq!(
            (state(&tasks[0]).as_str(), state(&tasks[1]).as_str()),
            ("TASK_STATE_ACTIVE", "TASK_STATE_PENDING")
        );
        hall.infra(
            "BMCService/BMCCommandDone",
            json!({"commandId": tasks[0], "error": "no power"}),
        );
        hall.infra("BMCService/BMCCommandDone", json!({"commandId": tasks[0]}));
        let task = hall.op("TaskService/Get", json!({"taskId": tasks[0]}))["task"].clone();
        assert_eq!(
            (text(&task["state"]).as_str(), text(&task["lastError"]).as_str()),
            ("TASK_STATE_ARCHIVED", "no power"),
            "the first answer counts"
        );
        assert_eq!(next()["commandId"], tasks[1].as_str());
        // the credentials are for those who may use them
        let request = json!({"uuid": waiting.uuid, "project": hall.project});
        let details =
            world.ok(&hall.user, "api.v2.MachineService/GetBMC", request.clone())["bmcDetails"]
                .clone();
        assert_eq!(details["bmcReport"]["bmc"]["password"], "secret");
        let other = world.project(&hall.user, "alice", "other");
        world.expect(
            "not_found",
            &hall.user,
            "api.v2.MachineService/GetBMC",
            json!({"uuid": waiting.uuid, "project": other}),
        );
        assert_eq!(hall.op("TaskService/Queues", json!({}))["queues"], json!(["bmc/p1"]));
    });
}

#[test]
fn a_command_whose_listener_has_gone_comes_again_soon() {
    on_all(|world| {
        let hall = Hall::new(world);
        hall.rack("r1", 4);
        let waiting = hall.machine("r1", 1);
        hall.allocate(json!({}));
        let bmc = json!({"partition": "p1", "bmcReports": [{"uuid": waiting.uuid, "bmc": {"address": "10.2.0.1:623", "mac": "00:00:00:00:00:01", "user": "root", "password": "secret"}}]});
        hall.infra("BMCService/UpdateBMCInfo", bmc);
        for command in ["OFF", "ON"] {
            let command = format!("MACHINE_BMC_COMMAND_{command}");
            let request =
                json!({"uuid": waiting.uuid, "project": hall.project, "command": command});
            world.ok(&hall.user, "api.v2.MachineService/BMCCommand", request);
        }
        let request = json!({"partition": "p1"});
        let next = || {
            world.open_stream(&hall.agent, WAIT, &request).expect("a stream")["commandId"].clone()
        };
        let begin = Instant::now();
        let told = next();
        assert!(told.is_string());
        let lost = Instant::now();
        let second = world.glance_at_stream(&hall.agent, WAIT, &request).expect("a stream");
        let early = lost.elapsed() < GRACE;
        assert!(second.is_null() || !early, "whoever got it may still be working on it");
        assert_eq!(next(), told, "the first one, although there is another");
        assert!(begin.elapsed() < LEASE, "not as late as its lease would end");
        hall.infra("BMCService/BMCCommandDone", json!({"commandId": told}));
        hall.until("the second follows", || next().as_str().is_some_and(|id| told != id));
    });
}

#[test]
fn issues_are_found() {
    on_all(|world| {
        let hall = Hall::new(world);
        hall.rack("r1", 4);
        let waiting = hall.machine("r1", 1);
        let kinds = |query: serde_json::Value| {
            let answer = hall.op("MachineService/Issues", json!({"query": query}));
            let issues = answer["issues"][0]["issues"].as_array().cloned().unwrap_or_default();
            issues
                .iter()
                .map(|i| text(&i["type"]).replace("MACHINE_ISSUE_TYPE_", ""))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(kinds(json!({})), "BMC_WITHOUT_MAC BMC_WITHOUT_IP BMC_INFO_OUTDATED");
        assert_eq!(
            kinds(json!({"omit": ["MACHINE_ISSUE_TYPE_BMC_WITHOUT_IP"]})),
            "BMC_WITHOUT_MAC BMC_INFO_OUTDATED"
        );
        assert_eq!(kinds(json!({"severity": "MACHINE_ISSUE_SEVERITY_CRITICAL"})), "");
        let home = json!({"events": {&waiting.uuid: {"event": "MACHINE_PROVISIONING_EVENT_TYPE_PLANNED_REBOOT"}}});
        hall.infra("EventService/Send", home);
        let home = json!({"events": {&waiting.uuid: {"event": "MACHINE_PROVISIONING_EVENT_TYPE_PHONED_HOME"}}});
        hall.infra("EventService/Send", home);
        assert_eq!(
            kinds(json!({"severity": "MACHINE_ISSUE_SEVERITY_CRITICAL"})),
            "FAILED_MACHINE_RECLAIM"
        );
    });
}
