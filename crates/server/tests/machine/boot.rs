//! From power-on to the pool, and what can go wrong on the way.

use std::io::Write as _;

use serde_json::json;

use crate::hall::Hall;
use crate::world::{on_all, text};

#[test]
fn a_machine_boots_registers_and_waits() {
    on_all(|world| {
        let hall = Hall::new(world);
        hall.rack("r1", 4);
        let boot =
            hall.infra("BootService/Boot", json!({"mac": "00:00:00:00:01:00", "partition": "p1"}));
        assert_eq!(
            boot,
            json!({"kernel": "http://k", "initRamDisks": ["http://i"], "cmdline": "quiet"})
        );
        let waiting = hall.machine("r1", 2);
        let machine = hall.machine_of(&waiting.uuid);
        assert_eq!(machine["size"]["id"], "c1");
        assert_eq!(machine["partition"]["id"], "p1");
        assert_eq!(machine["rack"], "r1");
        assert_eq!(machine["status"]["liveliness"], "MACHINE_LIVELINESS_ALIVE");
        let events: Vec<_> = machine["recentProvisioningEvents"]["events"]
            .as_array()
            .expect("events")
            .iter()
            .map(|e| text(&e["event"]).replace("MACHINE_PROVISIONING_EVENT_TYPE_", ""))
            .collect();
        assert_eq!(events, ["WAITING", "REGISTERING", "PREPARING", "PXE_BOOTING"]);
        assert!(machine["recentProvisioningEvents"]["state"].is_null());

        let uuid = waiting.uuid.clone();
        drop(waiting);
        hall.until("the machine leaves the pool with its stream", || !hall.waits(&uuid));
    });
}

#[test]
fn who_is_cabled_wrongly_is_told_so() {
    on_all(|world| {
        let hall = Hall::new(world);
        hall.rack("r1", 4);
        hall.rack("r2", 4);
        let refuse = |code: &str, change: &dyn Fn(&mut serde_json::Value), hint: &str| {
            let mut request = Hall::registration("r1", 1);
            change(&mut request);
            let (got, sentence) = world
                .call(&hall.agent, "infra.v2.BootService/Register", request)
                .expect_err("refused");
            assert_eq!(got, code, "{sentence}");
            assert!(sentence.contains(hint), "{sentence}");
        };
        refuse(
            "failed_precondition",
            &|r| {
                r["hardware"]["nics"].as_array_mut().expect("nics").pop();
            },
            "sees 1 switches",
        );
        refuse(
            "failed_precondition",
            &|r| r["hardware"]["nics"][1]["neighbors"][0]["hostname"] = json!("r2-b"),
            "different racks",
        );
        refuse(
            "not_found",
            &|r| r["hardware"]["nics"][1]["neighbors"][0]["hostname"] = json!("r9-b"),
            "r9-b",
        );
        refuse(
            "failed_precondition",
            &|r| r["hardware"]["nics"][1]["neighbors"][0]["identifier"] = json!("r1-b-3"),
            "do not correspond",
        );
        refuse(
            "failed_precondition",
            &|r| r["hardware"]["nics"][1]["neighbors"][0]["identifier"] = json!("x"),
            "none of the port identifiers",
        );
        refuse("failed_precondition", &|r| r["partition"] = json!("p2"), "belongs to partition p1");
        refuse("invalid_argument", &|r| r["hardware"] = json!(null), "hardware is missing");
        // nothing of a refused registration stays
        let all = hall.op("MachineService/List", json!({}));
        assert!(all["machines"].is_null(), "{all}");
        // others are not affected
        hall.machine("r1", 2);
    });
}

#[test]
fn a_machine_of_unknown_size_is_visible_and_never_chosen() {
    on_all(|world| {
        let hall = Hall::new(world);
        hall.rack("r1", 4);
        let mut request = Hall::registration("r1", 1);
        request["hardware"]["cpus"][0]["cores"] = json!(99);
        let answer = hall.infra("BootService/Register", request);
        assert_eq!(answer["size"], "unknown");
        let waiting = hall.wait(Hall::id("r1", 1));
        let machine = hall.machine_of(&waiting.uuid);
        assert_eq!(machine["size"]["id"], "unknown");
        assert_eq!(hall.create(hall.request()).expect_err("none").0, "resource_exhausted");
    });
}

#[test]
fn nobody_speaks_for_another_machine() {
    on_all(|world| {
        let hall = Hall::new(world);
        hall.rack("r1", 4);
        let (one, two) = (hall.machine("r1", 1), hall.machine("r1", 2));
        let claim = |uuid: &str, mac: &str| {
            let request = json!({"uuid": uuid, "partition": "p1", "mac": mac});
            world.call_path(&hall.agent, "/metal.v1.IdentityService/Claim", &request)
        };
        assert_eq!(claim(&one.uuid, "00:00:00:00:01:00"), Ok(json!({})));
        assert_eq!(
            claim(&one.uuid, "00:00:00:00:02:00").expect_err("an impostor").0,
            "failed_precondition"
        );
        let stranger = "00000000-0000-4000-0009-000000000009";
        assert_eq!(claim(stranger, "00:00:00:00:09:00"), Ok(json!({"unknown": true})));

        let token = |uuid: &str| {
            let request = json!({"uuid": uuid, "user": "agents"});
            text(&hall.infra("BootService/MachineToken", request)["secret"])
        };
        let old = token(&one.uuid);
        let own = token(&one.uuid);
        let event = |uuid: &str| json!({"uuid": uuid, "event": {"event": "MACHINE_PROVISIONING_EVENT_TYPE_ALIVE"}});
        let send = "infra.v2.BootService/SendEvent";
        world.expect("ok", &own, send, event(&one.uuid));
        world.expect("permission_denied", &own, send, event(&two.uuid));
        world.expect("unauthenticated", &old, send, event(&one.uuid));
        for (path, request) in [
            ("/metal.v1.InstallerService/Allocation", json!({"uuid": two.uuid})),
            (
                "/metalstack.infra.v2.BootService/InstallationSucceeded",
                json!({"uuid": two.uuid, "consolePassword": "secret"}),
            ),
            (
                "/metalstack.infra.v2.BootService/MachineToken",
                json!({"uuid": two.uuid, "user": "agents"}),
            ),
        ] {
            let (code, _) = world.call_path(&own, path, &request).expect_err("refused");
            assert_eq!(code, "permission_denied", "{path}");
        }
        let stream = world.open_stream(
            &own,
            "/metalstack.infra.v2.BootService/Wait",
            &json!({"uuid": two.uuid}),
        );
        assert_eq!(crate::world::code(&stream), "permission_denied");
        for told in ["PXE_BOOTING", "PHONED_HOME", "MACHINE_RECLAIM"] {
            let event = json!({"uuid": one.uuid, "event": {"event": format!("MACHINE_PROVISIONING_EVENT_TYPE_{told}")}});
            world.expect("invalid_argument", &own, send, event);
        }
        let nobody = json!({"uuid": one.uuid, "user": "alice"});
        world.expect("invalid_argument", &hall.agent, "infra.v2.BootService/MachineToken", nobody);
    });
}

#[test]
fn a_failure_is_visible_and_keeps_the_machine_out_of_the_pool() {
    on_all(|world| {
        let hall = Hall::new(world);
        hall.rack("r1", 4);
        let waiting = hall.machine("r1", 1);
        let request = json!({"uuid": waiting.uuid, "phase": "wipe", "reason": "/dev/nvme0n1 does not answer"});
        world
            .call_path(&hall.agent, "/metal.v1.InstallerService/ReportFailure", &request)
            .expect("reported");
        let machine = hall.machine_of(&waiting.uuid);
        let recent = &machine["recentProvisioningEvents"];
        assert_eq!(recent["state"], "MACHINE_PROVISIONING_EVENT_STATE_CRASHLOOP");
        assert_eq!(recent["lastErrorEvent"]["message"], "wipe: /dev/nvme0n1 does not answer");
        assert_eq!(hall.create(hall.request()).expect_err("none").0, "resource_exhausted");
        let issues = hall.op(
            "MachineService/Issues",
            json!({"query": {"only": ["MACHINE_ISSUE_TYPE_CRASH_LOOP"]}}),
        );
        assert_eq!(issues["issues"][0]["uuid"], waiting.uuid.as_str());
    });
}

#[test]
fn an_allocation_that_a_vanished_installer_was_told_is_told_again() {
    on_all(|world| {
        let hall = Hall::new(world);
        hall.rack("r1", 4);
        drop(hall.machine("r1", 1));
        let uuid = Hall::id("r1", 1);
        hall.until("nobody waits", || !hall.waits(&uuid));
        // power is lost: the connection stays open and nobody reads
        let body = json!({"uuid": uuid}).to_string();
        let length = u32::try_from(body.len()).expect("short").to_be_bytes();
        let head = format!(
            "POST /metalstack.infra.v2.BootService/Wait HTTP/1.1\r\nhost: metal\r\ncontent-type: application/connect+json\r\n\
             authorization: Bearer {}\r\ncontent-length: {}\r\n\r\n",
            hall.agent,
            5 + body.len()
        );
        let address = world.url().trim_start_matches("http://").to_owned();
        let mut dead = std::net::TcpStream::connect(address).expect("connected");
        let request = [head.as_bytes(), &[0], &length, body.as_bytes()].concat();
        dead.write_all(&request).expect("sent");
        hall.until("the machine waits", || hall.waits(&uuid));
        let machine = hall.allocate(json!({}));
        assert_eq!(machine["uuid"], uuid.as_str());
        // it comes back while the server still believes in the first connection
        let allocation = hall.wait(uuid.clone()).allocation();
        assert_eq!(allocation.uuid, text(&machine["allocation"]["uuid"]));
        drop(dead);
        assert!(!hall.waits(&uuid), "it is in use");
    });
}
