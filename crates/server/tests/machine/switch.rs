//! Switches: what they should be and what their agents tell.

use serde_json::{Value, json};

use crate::hall::Hall;
use crate::world::{on_all, text};

#[test]
fn a_switch_registers_and_tells_how_it_is() {
    on_all(|world| {
        let hall = Hall::new(world);
        hall.rack("r1", 2);
        let get = || hall.op("SwitchService/Get", json!({"id": "r1-a"}))["switch"].clone();
        let before = get();
        assert_eq!(
            before["nics"][0]["state"]["actual"], "SWITCH_PORT_STATUS_UNKNOWN",
            "readable without any heartbeat"
        );
        assert!(before["lastSync"].is_null());
        hall.infra("SwitchService/Register", json!({"switch": hall.switch("r1", "r1-a", 2)}));
        assert_eq!(get(), before, "told again, nothing changes");

        let port = json!({"id": "r1-a", "nicName": "swp1", "status": "SWITCH_PORT_STATUS_DOWN"});
        let wished = hall.op("SwitchService/Port", port)["switch"].clone();
        assert_eq!(wished["nics"][0]["state"]["desired"], "SWITCH_PORT_STATUS_DOWN");
        let beat = |one: &str, error: Value| {
            hall.infra("SwitchService/Heartbeat", json!({"id": "r1-a", "duration": "0.2s", "error": error,
                "portStates": {"swp1": format!("SWITCH_PORT_STATUS_{one}"), "swp2": "SWITCH_PORT_STATUS_UP"}}))
        };
        beat("UP", Value::Null);
        assert_eq!(
            get()["nics"][0]["state"],
            json!({"desired": "SWITCH_PORT_STATUS_DOWN", "actual": "SWITCH_PORT_STATUS_UP"})
        );
        beat("DOWN", json!("frr is down"));
        assert_eq!(
            get()["nics"][0]["state"],
            json!({"actual": "SWITCH_PORT_STATUS_DOWN"}),
            "a wish that came true is none"
        );
        assert_eq!(get()["lastSyncError"]["error"], "frr is down");
        assert!(get()["lastSync"].is_object(), "kept");
        let missing = json!({"id": "r1-a", "duration": "0.2s", "portStates": {"swp1": "SWITCH_PORT_STATUS_UP"}});
        world.expect("invalid_argument", &hall.agent, "infra.v2.SwitchService/Heartbeat", missing);
        world.expect(
            "not_found",
            &hall.agent,
            "infra.v2.SwitchService/Heartbeat",
            json!({"id": "r9-a"}),
        );

        let mut strange = hall.switch("r1", "r1-a", 2);
        strange["os"]["vendor"] = json!("SWITCH_OS_VENDOR_SONIC");
        world.expect(
            "invalid_argument",
            &hall.agent,
            "infra.v2.SwitchService/Register",
            json!({"switch": strange}),
        );
        let mut twice = hall.switch("r1", "r1-c", 2);
        twice["nics"][1]["name"] = json!("swp1");
        world.expect(
            "invalid_argument",
            &hall.agent,
            "infra.v2.SwitchService/Register",
            json!({"switch": twice}),
        );
        let mut nowhere = hall.switch("r1", "r1-c", 2);
        nowhere["partition"] = json!("p9");
        world.expect(
            "failed_precondition",
            &hall.agent,
            "infra.v2.SwitchService/Register",
            json!({"switch": nowhere}),
        );
    });
}

#[test]
fn ports_with_machines_stay() {
    on_all(|world| {
        let hall = Hall::new(world);
        hall.rack("r1", 2);
        let waiting = hall.machine("r1", 2);
        world.expect(
            "invalid_argument",
            &hall.agent,
            "infra.v2.SwitchService/Register",
            json!({"switch": hall.switch("r1", "r1-a", 1)}),
        );
        world.expect(
            "failed_precondition",
            &hall.admin,
            "admin.v2.SwitchService/Delete",
            json!({"id": "r1-a"}),
        );
        let connected = hall
            .op("SwitchService/ConnectedMachines", json!({"machineQuery": {"uuid": waiting.uuid}}));
        let ids: Vec<_> = connected["switchesWithMachines"]
            .as_array()
            .expect("switches")
            .iter()
            .map(|s| text(&s["id"]))
            .collect();
        assert_eq!(ids, ["r1-a", "r1-b"]);
        assert_eq!(connected["switchesWithMachines"][0]["connections"][0]["nic"]["name"], "swp2");
        hall.op("SwitchService/Delete", json!({"id": "r1-a", "force": true}));
        let left =
            hall.op("SwitchService/List", json!({"query": {"connectedMachineId": waiting.uuid}}));
        assert_eq!(left["switches"].as_array().map(Vec::len), Some(1));
    });
}

#[test]
fn a_broken_switch_is_replaced_by_another_make() {
    on_all(|world| {
        let hall = Hall::new(world);
        hall.rack("r1", 4);
        let waiting = hall.machine("r1", 2);
        let machine = hall.allocate(json!({}));
        hall.infra(
            "BootService/InstallationSucceeded",
            json!({"uuid": waiting.uuid, "consolePassword": "secret"}),
        );
        let vrf = format!("vrf{}", text(&machine["allocation"]["networks"][0]["vrf"]));
        let lock = json!({"lockingStrategy": "OPTIMISTIC_LOCKING_STRATEGY_SERVER"});
        hall.op(
            "SwitchService/Update",
            json!({"id": "r1-a", "updateMeta": lock, "replaceMode": "SWITCH_REPLACE_MODE_REPLACE"}),
        );
        let mut fresh = hall.switch("r1", "r1-a", 0);
        fresh["os"]["vendor"] = json!("SWITCH_OS_VENDOR_SONIC");
        fresh["nics"] = (0..4)
            .map(
                |n| json!({"name": format!("Ethernet{}", n * 4), "identifier": format!("new-{n}")}),
            )
            .collect();
        let after =
            hall.infra("SwitchService/Register", json!({"switch": fresh}))["switch"].clone();
        assert_eq!(after["replaceMode"], "SWITCH_REPLACE_MODE_OPERATIONAL");
        assert_eq!(after["nics"][2]["name"], "Ethernet4");
        let nic = after["nics"]
            .as_array()
            .expect("nics")
            .iter()
            .find(|n| n["name"] == "Ethernet4")
            .expect("port")
            .clone();
        assert_eq!(nic["vrf"], vrf.as_str());
        assert_eq!(after["machineConnections"][0]["machineId"], waiting.uuid.as_str());
        assert_eq!(after["machineConnections"][0]["nic"]["name"], "Ethernet4");
        let neighbor =
            hall.machine_of(&waiting.uuid)["hardware"]["nics"][0]["neighbors"][0].clone();
        assert_eq!(neighbor["identifier"], "new-1");
    });
}

#[test]
fn a_switch_hands_over_to_another() {
    on_all(|world| {
        let hall = Hall::new(world);
        hall.rack("r1", 4);
        let waiting = hall.machine("r1", 3);
        hall.infra("SwitchService/Register", json!({"switch": hall.switch("r1", "r1-c", 4)}));
        hall.rack("r2", 4);
        let migrate = |old: &str, new: &str| {
            world.call(
                &hall.admin,
                "admin.v2.SwitchService/Migrate",
                json!({"oldSwitch": old, "newSwitch": new}),
            )
        };
        assert_eq!(migrate("r1-a", "r2-a").expect_err("another rack").0, "failed_precondition");
        assert_eq!(migrate("r1-a", "r1-b").expect_err("has machines").0, "failed_precondition");
        assert_eq!(migrate("r1-a", "r1-a").expect_err("the same").0, "invalid_argument");
        let after = migrate("r1-a", "r1-c").expect("migrated")["switch"].clone();
        assert_eq!(after["machineConnections"][0]["machineId"], waiting.uuid.as_str());
        let old = hall.op("SwitchService/Get", json!({"id": "r1-a"}))["switch"].clone();
        assert!(old["machineConnections"].is_null());
        hall.infra("SwitchService/Register", json!({"switch": hall.switch("r1", "r1-a", 4)}));
    });
}
