//! Allocation and release.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::hall::Hall;
use crate::world::{on_all, text};

#[test]
fn a_machine_is_allocated_installed_and_released() {
    on_all(|world| {
        let hall = Hall::new(world);
        hall.rack("r1", 4);
        let waiting = hall.machine("r1", 1);
        let bmc = json!({"partition": "p1", "bmcReports": [{"uuid": waiting.uuid, "bmc": {"address": "10.2.0.1:623", "mac": "00:00:00:00:00:01", "user": "root", "password": "secret"}}]});
        hall.infra("BMCService/UpdateBMCInfo", bmc);

        let machine =
            hall.allocate(json!({"labels": {"labels": {"a": "1"}}, "userdata": "aGVsbG8="}));
        let allocation = &machine["allocation"];
        assert_eq!(machine["uuid"], waiting.uuid.as_str());
        assert_eq!(allocation["hostname"], "host1");
        assert_eq!(allocation["createdBy"], "alice");
        assert_eq!(allocation["image"]["id"], "debian-12.0.1");
        assert_eq!(allocation["filesystemLayout"]["id"], "default");
        assert_eq!(allocation["dnsServers"], json!([{"ip": "1.1.1.1"}]), "those of the partition");
        let network = &allocation["networks"][0];
        assert_eq!(network["ips"], json!(["10.0.0.1"]));
        assert_eq!(network["networkType"], "NETWORK_TYPE_CHILD");
        let vrf = format!("vrf{}", text(&network["vrf"]));
        assert!(network["asn"].as_u64().expect("asn") >= 4_210_000_000);

        // the installer hears of it and installs
        let told = waiting.allocation();
        assert_eq!(told.uuid, text(&allocation["uuid"]));
        assert_eq!(told.userdata, "aGVsbG8=");
        hall.event(&waiting.uuid, "INSTALLING");
        let installing = world
            .call_path(
                &hall.admin,
                "/metal.v1.TimelineService/AdminGet",
                &json!({"uuid": waiting.uuid}),
            )
            .expect("timeline");
        assert_eq!(installing["progress"]["waitingFor"], "the image to be written to the disk");
        assert!(installing["progress"]["deadline"].is_string(), "{installing}");
        assert_eq!(hall.vrf("r1-a", 1), "-");
        hall.infra(
            "BootService/InstallationSucceeded",
            json!({"uuid": waiting.uuid, "consolePassword": "s3cret"}),
        );
        assert_eq!(hall.vrf("r1-a", 1), vrf);
        assert_eq!(hall.vrf("r1-b", 1), vrf);
        let filter = hall.infra("SwitchService/Get", json!({"id": "r1-a"}))["switch"]["nics"][0]["bgpFilter"].clone();
        assert_eq!(filter, json!({"cidrs": ["10.0.0.0/22", "10.240.0.0/12"]}));
        let password = hall.op(
            "MachineService/ConsolePassword",
            json!({"uuid": waiting.uuid, "reason": "the network is down"}),
        );
        assert_eq!(password["password"], "s3cret");
        hall.event(&waiting.uuid, "BOOTING_NEW_KERNEL");
        let home = json!({"events": {&waiting.uuid: {"event": "MACHINE_PROVISIONING_EVENT_TYPE_PHONED_HOME"}}});
        assert_eq!(hall.infra("EventService/Send", home)["events"], "1");
        let timeline = world
            .call_path(
                &hall.user,
                "/metal.v1.TimelineService/Get",
                &json!({"uuid": waiting.uuid, "project": hall.project}),
            )
            .expect("timeline");
        let progress = &timeline["progress"];
        assert_eq!(progress["event"], "MACHINE_PROVISIONING_EVENT_TYPE_PHONED_HOME");
        assert_eq!(progress["waitingFor"], "nothing, the machine is in use");
        assert_eq!(progress["deadline"], Value::Null, "it may stay as it is");
        let phases: Vec<_> = timeline["phases"]
            .as_array()
            .expect("phases")
            .iter()
            .map(|p| text(&p["name"]))
            .collect();
        assert_eq!(phases, ["allocate", "boot"]);

        // released: nothing is free before both switches say that the ports have left
        let request = json!({"uuid": waiting.uuid, "project": hall.project});
        let released =
            world.ok(&hall.user, "api.v2.MachineService/Delete", request.clone())["machine"]
                .clone();
        let task = text(&released["meta"]["deletionTaskId"]);
        let again =
            world.ok(&hall.user, "api.v2.MachineService/Delete", request)["machine"].clone();
        assert_eq!(again["meta"]["deletionTaskId"], task.as_str(), "asked twice, done once");
        assert_eq!(hall.vrf("r1-a", 1), "-");
        let installer = world.call_path(
            &hall.agent,
            "/metal.v1.InstallerService/Allocation",
            &json!({"uuid": waiting.uuid}),
        );
        assert_eq!(installer, Ok(json!({})), "the installer wipes it");
        hall.until("the release says why it waits", || {
            hall.op("TaskService/Get", json!({"taskId": task}))["task"]["lastError"]
                .as_str()
                .is_some_and(|e| e.contains("waits for switch r1-a"))
        });
        assert_eq!(hall.ips(), ["10.0.0.1"]);
        hall.infra(
            "SwitchService/Heartbeat",
            json!({"id": "r1-a", "duration": "0.1s", "error": "frr is down"}),
        );
        hall.infra("SwitchService/Heartbeat", json!({"id": "r1-b", "duration": "0.1s"}));
        assert_eq!(hall.ips(), ["10.0.0.1"]);
        hall.confirm("r1");
        hall.until("the addresses are free", || hall.ips().is_empty());
        let free = hall.machine_of(&waiting.uuid);
        assert!(free["allocation"].is_null());
        assert!(free["meta"]["deletionTaskId"].is_null());
        assert_eq!(
            hall.op("TaskService/Get", json!({"taskId": task}))["task"]["state"],
            "TASK_STATE_COMPLETED"
        );
        let refused = world.call(
            &hall.admin,
            "admin.v2.MachineService/ConsolePassword",
            json!({"uuid": waiting.uuid, "reason": "the network is down"}),
        );
        assert_eq!(refused.expect_err("forgotten").0, "failed_precondition");

        // and its BMC is told, after it was told to boot from disk
        let commands = world
            .open_stream(
                &hall.agent,
                "/metalstack.infra.v2.BMCService/WaitForBMCCommand",
                &json!({"partition": "p1"}),
            )
            .expect("a command");
        assert_eq!(commands["bmcCommand"], "MACHINE_BMC_COMMAND_MACHINE_CREATED");
        // as long as the server has not noticed that the first listener is gone, the next command may be lent to it for a while
        hall.infra("BMCService/BMCCommandDone", json!({"commandId": commands["commandId"]}));
        let command = world
            .open_stream(
                &hall.agent,
                "/metalstack.infra.v2.BMCService/WaitForBMCCommand",
                &json!({"partition": "p1"}),
            )
            .expect("a command");
        assert_eq!(command["bmcCommand"], "MACHINE_BMC_COMMAND_MACHINE_DELETED");
        assert_eq!(command["machineBmc"]["password"], "secret");

        // and it can be allocated again
        drop(waiting);
        let waiting = hall.machine("r1", 1);
        let second = hall.allocate(json!({}));
        assert_eq!(second["uuid"], waiting.uuid.as_str());
        assert_ne!(waiting.allocation().uuid, told.uuid);
    });
}

#[test]
fn what_does_not_fit_is_refused_and_leaks_nothing() {
    on_all(|world| {
        let hall = Hall::new(world);
        hall.rack("r1", 4);
        let waiting = hall.machine("r1", 1);
        let refuse = |fields: serde_json::Value, code: &str, hint: &str| {
            let shown = fields.to_string();
            let (got, sentence) = hall.create(hall.request_with(fields)).expect_err(&shown);
            assert_eq!(got, code, "{shown}: {sentence}");
            assert!(sentence.contains(hint), "{shown}: {sentence}");
        };
        let network = &hall.network;
        refuse(json!({"partition": "p9"}), "not_found", "p9");
        refuse(json!({"partition": null}), "invalid_argument", "partition is missing");
        refuse(json!({"size": "c9"}), "not_found", "c9");
        refuse(json!({"image": "debian-99"}), "not_found", "debian-99");
        refuse(json!({"image": "firewall-3"}), "invalid_argument", "not made for a machine");
        refuse(json!({"filesystemLayout": "none"}), "not_found", "none");
        refuse(
            json!({"networks": [{"network": "internet"}]}),
            "invalid_argument",
            "exactly one network",
        );
        refuse(
            json!({"networks": [{"network": network}, {"network": network}]}),
            "invalid_argument",
            "given twice",
        );
        refuse(json!({"networks": [{"network": "super"}]}), "invalid_argument", "super");
        refuse(
            json!({"networks": [{"network": network}, {"network": "underlay"}]}),
            "invalid_argument",
            "underlay",
        );
        refuse(json!({"networks": [{"network": "nothing"}]}), "not_found", "nothing");
        refuse(
            json!({"networks": [{"network": network, "ips": ["10.0.0.77"]}]}),
            "not_found",
            "10.0.0.77",
        );
        refuse(
            json!({"uuid": waiting.uuid, "partition": null, "size": null}),
            "permission_denied",
            "only operators",
        );
        refuse(json!({"firewallSpec": {}}), "invalid_argument", "only for firewalls");
        refuse(
            json!({"allocationType": "MACHINE_ALLOCATION_TYPE_UNSPECIFIED"}),
            "invalid_argument",
            "allocation_type",
        );
        // a layout that is too big is seen only when the machine is chosen: everything taken is given back
        hall.op("FilesystemService/Create", json!({"filesystemLayout": {"id": "huge",
            "disks": [{"device": "/dev/nvme0n1", "partitions": [{"number": 1, "label": "root", "size": "100000", "gptType": "GPT_TYPE_LINUX"}]}],
            "filesystems": [{"device": "/dev/nvme0n1p1", "format": "FORMAT_EXT4", "path": "/", "label": "root"}],
            "constraints": {"sizes": ["c2"], "images": {"debian": "*"}}}}));
        refuse(json!({"filesystemLayout": "huge"}), "invalid_argument", "huge does not fit");
        assert!(hall.ips().is_empty());
        assert!(hall.waits(&waiting.uuid));
        let machine = hall.allocate(json!({}));
        assert_eq!(machine["allocation"]["networks"][0]["ips"], json!(["10.0.0.1"]));
        refuse(json!({}), "resource_exhausted", "no machine available");
        let foreign = world.login("mallory");
        for method in ["Get", "Delete"] {
            let request = json!({"uuid": waiting.uuid, "project": hall.project});
            world.expect(
                "permission_denied",
                &foreign,
                &format!("api.v2.MachineService/{method}"),
                request,
            );
        }
    });
}

#[test]
fn an_operator_names_the_machine() {
    on_all(|world| {
        let hall = Hall::new(world);
        hall.rack("r1", 4);
        let (one, two) = (hall.machine("r1", 1), hall.machine("r1", 2));
        hall.op(
            "MachineService/SetState",
            json!({"uuid": two.uuid, "state": "MACHINE_STATE_TAINTED", "description": "for tests"}),
        );
        let request = hall.request_with(json!({"uuid": two.uuid, "partition": null, "size": null}));
        let got = world.ok(&hall.admin, "api.v2.MachineService/Create", request.clone());
        assert_eq!(
            got["machine"]["uuid"],
            two.uuid.as_str(),
            "a tainted machine is taken when it is named"
        );
        let (code, sentence) =
            world.call(&hall.admin, "api.v2.MachineService/Create", request).expect_err("taken");
        assert_eq!(code, "invalid_argument");
        assert!(sentence.contains("allocated already"), "{sentence}");
        hall.op(
            "MachineService/SetState",
            json!({"uuid": one.uuid, "state": "MACHINE_STATE_LOCKED", "description": "no"}),
        );
        assert_eq!(hall.create(hall.request()).expect_err("locked").0, "resource_exhausted");
    });
}

#[test]
fn machines_of_a_project_spread_over_racks() {
    on_all(|world| {
        let hall = Hall::new(world);
        let mut machines = Vec::new();
        for rack in ["r1", "r2", "r3"] {
            hall.rack(rack, 4);
            for port in 1..=2 {
                machines.push(hall.machine(rack, port));
            }
        }
        let mut racks = Vec::new();
        for _ in 0..6 {
            racks.push(text(&hall.allocate(json!({}))["rack"]));
        }
        let three: BTreeSet<_> = racks[..3].iter().collect();
        assert_eq!(three.len(), 3, "{racks:?}");
        let others: BTreeSet<_> = racks[3..].iter().collect();
        assert_eq!(others.len(), 3, "{racks:?}");
    });
}

#[test]
fn two_callers_never_get_the_same_machine() {
    on_all(|world| {
        const MACHINES: u32 = 12;
        const CALLERS: usize = 24;
        let hall = Hall::new(world);
        hall.rack("r1", MACHINES);
        let _machines: Vec<_> = (1..=MACHINES).map(|port| hall.machine("r1", port)).collect();
        let answers: Vec<_> = std::thread::scope(|scope| {
            let callers: Vec<_> =
                (0..CALLERS).map(|_| scope.spawn(|| hall.create(hall.request()))).collect();
            callers.into_iter().map(|caller| caller.join().expect("caller")).collect()
        });
        let (mut machines, mut addresses, mut numbers) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut refused = 0;
        for answer in answers {
            match answer {
                Ok(got) => {
                    let network = &got["machine"]["allocation"]["networks"][0];
                    assert!(machines.insert(text(&got["machine"]["uuid"])));
                    assert!(addresses.insert(text(&network["ips"][0])));
                    assert!(numbers.insert(network["asn"].as_u64()));
                }
                Err((code, sentence)) => {
                    assert_eq!(code, "resource_exhausted", "{sentence}");
                    refused += 1;
                }
            }
        }
        assert_eq!((machines.len(), refused), (MACHINES as usize, CALLERS - MACHINES as usize));
        assert_eq!(hall.ips().len(), MACHINES as usize, "nothing leaks");
    });
}

#[test]
fn a_firewall_gets_the_underlay_and_its_rules() {
    on_all(|world| {
        let hall = Hall::new(world);
        hall.rack("r1", 4);
        let waiting = hall.machine("r1", 1);
        let firewall = |rules: serde_json::Value| {
            json!({"allocationType": "MACHINE_ALLOCATION_TYPE_FIREWALL", "image": "firewall-3",
                "networks": [{"network": hall.network}, {"network": "internet"}], "firewallSpec": {"firewallRules": rules}})
        };
        let mixed = json!({"egress": [{"protocol": "IP_PROTOCOL_TCP", "ports": [443], "to": ["0.0.0.0/0", "::/0"], "comment": "x"}]});
        let (code, sentence) = hall.create(hall.request_with(firewall(mixed))).expect_err("mixed");
        assert_eq!(
            (code.as_str(), sentence.contains("egress rule 1")),
            ("invalid_argument", true),
            "{sentence}"
        );
        let rules = json!({"egress": [{"protocol": "IP_PROTOCOL_TCP", "ports": [443], "to": ["0.0.0.0/0"], "comment": "https"}]});
        let machine = hall.allocate(firewall(rules));
        let networks: Vec<_> = machine["allocation"]["networks"]
            .as_array()
            .expect("networks")
            .iter()
            .map(|n| text(&n["networkType"]))
            .collect();
        assert_eq!(
            networks,
            ["NETWORK_TYPE_CHILD", "NETWORK_TYPE_EXTERNAL", "NETWORK_TYPE_UNDERLAY"]
        );
        hall.infra(
            "BootService/InstallationSucceeded",
            json!({"uuid": waiting.uuid, "consolePassword": "secret"}),
        );
        assert_eq!(hall.vrf("r1-a", 1), "default");
        let filter = hall.infra("SwitchService/Get", json!({"id": "r1-a"}))["switch"]["nics"][0]["bgpFilter"].clone();
        assert_eq!(filter["cidrs"], json!(["10.253.0.1/32"]));
        assert_eq!(filter["vnis"].as_array().map(Vec::len), Some(2));
    });
}

#[test]
fn firewalls_of_a_network_have_different_distances() {
    on_all(|world| {
        const LABEL: &str = "firewall.metal-stack.io/distance";
        const FIREWALLS: u32 = 4;
        let hall = Hall::new(world);
        hall.rack("r1", FIREWALLS + 2);
        let _machines: Vec<_> = (1..=FIREWALLS + 2).map(|port| hall.machine("r1", port)).collect();
        let wish = |labels: serde_json::Value| {
            json!({"allocationType": "MACHINE_ALLOCATION_TYPE_FIREWALL", "image": "firewall-3", "labels": {"labels": labels},
                "networks": [{"network": hall.network}, {"network": "internet"}]})
        };
        let distance = |machine: &serde_json::Value| {
            text(&machine["allocation"]["meta"]["labels"]["labels"][LABEL])
        };
        // all at the same time
        let made: Vec<_> = std::thread::scope(|scope| {
            let callers: Vec<_> = (0..FIREWALLS)
                .map(|_| scope.spawn(|| hall.allocate(wish(json!({"mine": "stays"})))))
                .collect();
            callers.into_iter().map(|caller| caller.join().expect("caller")).collect()
        });
        let distances: BTreeSet<_> = made.iter().map(distance).collect();
        assert_eq!(distances, ["0", "1", "2", "3"].map(str::to_owned).into());
        assert_eq!(made[0]["allocation"]["meta"]["labels"]["labels"]["mine"], "stays");
        // who asks for one gets it
        assert_eq!(distance(&hall.allocate(wish(json!({LABEL: "0"})))), "0");
        let wrong = hall.create(hall.request_with(wish(json!({LABEL: "8"})))).expect_err("8");
        assert_eq!((wrong.0.as_str(), wrong.1.contains("0 to 7")), ("invalid_argument", true));
        // one that was given back is given again
        let gone = made.iter().find(|machine| distance(machine) == "2").expect("the third");
        let uuid = text(&gone["uuid"]);
        let about = json!({"uuid": uuid, "project": hall.project});
        world.ok(&hall.user, "api.v2.MachineService/Delete", about);
        hall.until("it is released", || {
            hall.confirm("r1");
            hall.machine_of(&uuid)["allocation"].is_null()
        });
        assert_eq!(distance(&hall.allocate(wish(json!({})))), "2");
    });
}
