//! What the system that this one replaces does wrong with machines and switches, each under its number in docs/coverage.md.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::hall::Hall;
use crate::world::{on_all, text};

fn bmc(uuid: &str, more: &Value) -> Value {
    let mut report = json!({"uuid": uuid, "bmc": {"address": "10.2.0.1:623", "mac": "00:00:00:00:00:01",
        "user": "root", "password": "secret"}});
    for (key, value) in more.as_object().expect("fields") {
        report[key] = value.clone();
    }
    json!({"partition": "p1", "bmcReports": [report]})
}

#[test]
fn defect_14_heartbeats_never_overwrite_what_a_port_is_meant_to_be() {
    on_all(|world| {
        let hall = Hall::new(world);
        hall.rack("r1", 8);
        let machines: Vec<_> = (1..=4).map(|port| hall.machine("r1", port)).collect();
        let allocated: Vec<_> = machines.iter().map(|_| hall.allocate(json!({}))).collect();
        let vrf = format!("vrf{}", text(&allocated[0]["allocation"]["networks"][0]["vrf"]));
        std::thread::scope(|scope| {
            for side in ["r1-a", "r1-b"] {
                let states: serde_json::Map<_, _> =
                    (1..=8).map(|n| (format!("swp{n}"), json!("SWITCH_PORT_STATUS_UP"))).collect();
                let beat = json!({"id": side, "duration": "0.1s", "portStates": states});
                let hall = &hall;
                scope.spawn(move || {
                    for _ in 0..12 {
                        hall.infra("SwitchService/Get", json!({"id": side}));
                        hall.infra("SwitchService/Heartbeat", beat.clone());
                    }
                });
            }
            for machine in &machines {
                let request = json!({"uuid": machine.uuid, "consolePassword": "secret"});
                hall.infra("BootService/InstallationSucceeded", request);
            }
        });
        for port in 1..=4 {
            for side in ["r1-a", "r1-b"] {
                assert_eq!(hall.vrf(side, port), vrf, "{side} {port}");
            }
        }
    });
}

#[test]
fn defect_17_events_that_come_at_once_are_all_kept() {
    on_all(|world| {
        let hall = Hall::new(world);
        let uuid = Hall::id("r1", 1);
        hall.infra("BootService/Dhcp", json!({"uuid": uuid, "partition": "p1"}));
        std::thread::scope(|scope| {
            for caller in 0..4 {
                let (hall, uuid) = (&hall, &uuid);
                scope.spawn(move || {
                    for number in 0..4 {
                        let event = json!({"event": "MACHINE_PROVISIONING_EVENT_TYPE_CRASHED",
                            "message": format!("{caller}-{number}")});
                        hall.infra("BootService/SendEvent", json!({"uuid": uuid, "event": event}));
                    }
                });
            }
        });
        let recent = hall.machine_of(&uuid)["recentProvisioningEvents"]["events"].clone();
        let kept = recent.as_array().expect("events").iter();
        let kept = kept.filter(|event| event["message"].as_str().is_some_and(|m| m.contains('-')));
        assert_eq!(kept.count(), 16, "{recent}");
    });
}

#[test]
fn defect_24_who_is_silent_dies_and_comes_back_and_old_images_are_not_chosen() {
    on_all(|world| {
        let hall = Hall::new(world);
        hall.rack("r1", 2);
        let uuid = hall.machine("r1", 1).uuid.clone();
        hall.until("the stream has ended", || !hall.waits(&uuid));
        let judge = |silent: i64| {
            world.runtime.block_on(async {
                let mut tx = world.db.begin_write().await.expect("begin");
                let since = Timestamp::now().as_microsecond() - silent;
                store::event::judge(&mut tx, since).await.expect("judged");
                tx.commit().await.expect("commit");
            });
            text(&hall.machine_of(&uuid)["status"]["liveliness"]).replace("MACHINE_LIVELINESS_", "")
        };
        assert_eq!(judge(3_600_000_000), "ALIVE", "heard within the hour");
        assert_eq!(judge(0), "DEAD");
        let waiting = hall.wait(uuid.clone());
        assert_eq!(judge(0), "ALIVE", "it waits");
        let machine = hall.allocate(json!({}));
        assert_eq!(machine["uuid"], waiting.uuid.as_str());
        drop(waiting);
        assert_eq!(judge(0), "UNKNOWN", "who is allocated is not asked");
        hall.event(&uuid, "INSTALLING");
        assert_eq!(judge(3_600_000_000), "ALIVE", "it was heard again");

        let lock = json!({"lockingStrategy": "OPTIMISTIC_LOCKING_STRATEGY_SERVER"});
        // far enough away for the update, which takes no time of the past
        let mut soon = Timestamp::now();
        hall.until("an image with an end", || {
            soon = Timestamp::now() + Duration::from_secs(2);
            let update =
                json!({"id": "debian-12.0.1", "updateMeta": lock, "expiresAt": soon.to_string()});
            world.call(&hall.admin, "admin.v2.ImageService/Update", update).is_ok()
        });
        hall.until("the end of the image", || Timestamp::now() > soon);
        let (code, sentence) = hall.create(hall.request()).expect_err("expired");
        assert_eq!(code, "not_found", "{sentence}");
        assert!(sentence.contains("not expired"), "{sentence}");
    });
}

#[test]
fn defect_25_operators_forget_dead_machines_only() {
    on_all(|world| {
        let hall = Hall::new(world);
        hall.rack("r1", 2);
        let waiting = hall.machine("r1", 1);
        let request = json!({"uuid": waiting.uuid});
        let delete = "admin.v2.MachineService/Delete";
        let refuse = |hint: &str| {
            let (code, sentence) =
                world.call(&hall.admin, delete, request.clone()).expect_err("refused");
            assert_eq!(code, "invalid_argument", "{sentence}");
            assert!(sentence.contains(hint), "{sentence}");
        };
        refuse("heard lately");
        let uuid = waiting.uuid.clone();
        drop(waiting);
        hall.until("the stream has ended", || !hall.waits(&uuid));
        refuse("heard lately");
        world.runtime.block_on(async {
            let mut tx = world.db.begin_write().await.expect("begin");
            let now = Timestamp::now().as_microsecond();
            store::event::judge(&mut tx, now).await.expect("judged");
            tx.commit().await.expect("commit");
        });
        let gone = world.ok(&hall.admin, delete, request.clone());
        assert_eq!(gone["machine"]["uuid"], uuid.as_str());
        world.expect("not_found", &hall.admin, delete, request);
        let connected = hall.op("SwitchService/ConnectedMachines", json!({}));
        assert!(!connected.to_string().contains(&uuid), "{connected}");
    });
}

#[test]
fn defect_32_machines_with_the_same_placement_labels_are_apart() {
    on_all(|world| {
        let hall = Hall::new(world);
        let mut machines = Vec::new();
        for rack in ["r1", "r2"] {
            hall.rack(rack, 4);
            machines.extend((1..=3).map(|port| hall.machine(rack, port)));
        }
        let rack = |labels: Value| {
            text(&hall.allocate(json!({"placementLabels": {"labels": labels}}))["rack"])
        };
        // without labels the third would go anywhere: one machine is in each rack
        let first = rack(json!({"app": "db"}));
        let second = rack(json!({"app": "web"}));
        assert_ne!(first, second, "they spread, too");
        let third = rack(json!({"app": "db"}));
        assert_eq!(third, second, "away from the other database");
        let fourth = rack(json!({"app": "web"}));
        assert_eq!(fourth, first, "away from the other web server");
    });
}

#[test]
fn defect_33_a_size_that_changes_takes_and_loses_machines() {
    on_all(|world| {
        let hall = Hall::new(world);
        hall.rack("r1", 4);
        let mut request = Hall::registration("r1", 1);
        request["hardware"]["cpus"][0]["cores"] = json!(8);
        assert_eq!(hall.infra("BootService/Register", request)["size"], "unknown");
        let big = hall.wait(Hall::id("r1", 1));
        let small = hall.machine("r1", 2);
        let constraints = |cores: &str| {
            json!([{"type": "SIZE_CONSTRAINT_TYPE_CORES", "min": cores, "max": cores},
                {"type": "SIZE_CONSTRAINT_TYPE_MEMORY", "min": "1", "max": "1099511627776"},
                {"type": "SIZE_CONSTRAINT_TYPE_STORAGE", "min": "0", "max": "1099511627776"}])
        };
        hall.op(
            "SizeService/Create",
            json!({"size": {"id": "c2", "constraints": constraints("8")}}),
        );
        let size = |uuid: &str| text(&hall.machine_of(uuid)["size"]["id"]);
        assert_eq!((size(&big.uuid).as_str(), size(&small.uuid).as_str()), ("c2", "c1"));
        let lock = json!({"lockingStrategy": "OPTIMISTIC_LOCKING_STRATEGY_SERVER"});
        hall.op(
            "SizeService/Update",
            json!({"id": "c1", "updateMeta": lock, "constraints": constraints("6")}),
        );
        assert_eq!(size(&small.uuid), "unknown");
        assert_eq!(hall.create(hall.request()).expect_err("none").0, "resource_exhausted");
        // the machine waited all the time and can be had as what it is
        let layout = json!({"sizes": ["c1", "c2"], "images": {"debian": "*"}});
        hall.op(
            "FilesystemService/Update",
            json!({"id": "default", "updateMeta": lock, "constraints": layout}),
        );
        let machine = hall.allocate(json!({"size": "c2"}));
        assert_eq!(machine["uuid"], big.uuid.as_str());
    });
}

#[test]
fn defect_34_a_registration_keeps_what_it_does_not_tell() {
    on_all(|world| {
        let hall = Hall::new(world);
        hall.rack("r1", 2);
        let waiting = hall.machine("r1", 1);
        hall.infra("BMCService/UpdateBMCInfo", bmc(&waiting.uuid, &json!({})));
        hall.infra("BootService/Register", Hall::registration("r1", 1));
        let details =
            hall.op("MachineService/GetBMC", json!({"uuid": waiting.uuid}))["bmcDetails"].clone();
        assert_eq!(details["bmcReport"]["bmc"]["address"], "10.2.0.1:623");
        assert_eq!(details["bmcReport"]["bmc"]["password"], "secret");
    });
}

#[test]
fn defect_35_what_bmcs_and_events_tell_is_shown() {
    on_all(|world| {
        let hall = Hall::new(world);
        for side in ["a", "b"] {
            let mut switch = hall.switch("r1", &format!("r1-{side}"), 2);
            switch["room"] = json!("room-7");
            hall.infra("SwitchService/Register", json!({"switch": switch}));
        }
        let waiting = hall.machine("r1", 1);
        let led = json!({"ledState": {"value": "LED-ON", "description": "somebody looks for it"}});
        hall.infra("BMCService/UpdateBMCInfo", bmc(&waiting.uuid, &led));
        hall.event(&waiting.uuid, "CRASHED");
        let machine = hall.machine_of(&waiting.uuid);
        assert_eq!(machine["status"]["ledState"]["value"], "LED-ON");
        assert_eq!(
            machine["recentProvisioningEvents"]["state"],
            "MACHINE_PROVISIONING_EVENT_STATE_CRASHLOOP"
        );
        let details =
            hall.op("MachineService/GetBMC", json!({"uuid": waiting.uuid}))["bmcDetails"].clone();
        assert_eq!((&details["rack"], &details["room"]), (&json!("r1"), &json!("room-7")));
        let listed = hall.op("MachineService/ListBMC", json!({}))["bmcDetails"][0].clone();
        assert_eq!((&listed["rack"], &listed["room"]), (&json!("r1"), &json!("room-7")));
    });
}

#[test]
fn defect_39_a_partition_narrows_down_to_its_machines() {
    on_all(|world| {
        let hall = Hall::new(world);
        for (n, partition) in [(1, "p1"), (2, "p1"), (3, "p2")] {
            let request = json!({"uuid": Hall::id("r1", n), "partition": partition});
            hall.infra("BootService/Dhcp", request);
        }
        let count = |partition: &str| {
            let query = json!({"query": {"partition": partition}});
            hall.op("MachineService/List", query)["machines"].as_array().map_or(0, Vec::len)
        };
        assert_eq!((count("p1"), count("p2"), count("p3")), (2, 1, 0));
    });
}

#[test]
fn defect_40_what_is_missing_crashes_nothing() {
    on_all(|world| {
        let hall = Hall::new(world);
        // a port without a state, a machine without BMC, a report without one
        let mut switch = hall.switch("r1", "r1-a", 2);
        switch["nics"][0]["state"] = json!(null);
        hall.infra("SwitchService/Register", json!({"switch": switch}));
        hall.rack("r1", 2);
        let waiting = hall.machine("r1", 1);
        hall.infra(
            "BMCService/UpdateBMCInfo",
            json!({"partition": "p1", "bmcReports": [{"uuid": waiting.uuid}]}),
        );
        for method in ["MachineService/GetBMC", "MachineService/Get"] {
            hall.op(method, json!({"uuid": waiting.uuid}));
        }
        for method in ["MachineService/ListBMC", "MachineService/Issues", "SwitchService/List"] {
            hall.op(method, json!({}));
        }
        // partitions need not be numbered from one without gaps
        let layout = |number: u32| {
            json!({"filesystemLayout": {"id": format!("l{number}"),
                "disks": [{"device": "/dev/sda", "partitions": [{"number": number, "label": "root", "size": "1000", "gptType": "GPT_TYPE_LINUX"}]}],
                "filesystems": [{"device": format!("/dev/sda{number}"), "format": "FORMAT_EXT4", "path": "/", "label": "root"}],
                "constraints": {"sizes": [format!("s{number}")], "images": {"debian": "*"}}}})
        };
        hall.op("FilesystemService/Create", layout(7));
        let mut nowhere = layout(8);
        nowhere["filesystemLayout"]["filesystems"][0]["path"] = json!(null);
        let answer = world.call(&hall.admin, "admin.v2.FilesystemService/Create", nowhere);
        assert!(matches!(crate::world::code(&answer), "ok" | "invalid_argument"), "{answer:?}");
        // moved once, then read and moved back: cables are where they were
        hall.infra("SwitchService/Register", json!({"switch": hall.switch("r1", "r1-c", 2)}));
        for (old, new) in [("r1-a", "r1-c"), ("r1-c", "r1-a")] {
            hall.op("SwitchService/Migrate", json!({"oldSwitch": old, "newSwitch": new}));
            hall.op("SwitchService/Get", json!({"id": old}));
            hall.infra("SwitchService/Get", json!({"id": new}));
        }
    });
}
