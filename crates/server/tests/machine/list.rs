//! Lists of machines: in JSON and in binary form, of rows that this version wrote and of those of an older one.

use buffa::Message;
use proto::{admin, api};
use serde_json::{Value, json};
use store::machine::TABLE;

use crate::hall::Hall;
use crate::world::{World, on_all, text};

/// What a list holds, which is the same in both forms.
#[track_caller]
fn list(world: &World, token: &str, package: &str, request: &Value) -> Vec<Value> {
    let of_json = world.ok(token, &format!("{package}.v2.MachineService/List"), request.clone());
    let bytes = if package == "api" {
        let message: api::MachineServiceListRequest =
            serde_json::from_value(request.clone()).unwrap();
        message.encode_to_vec()
    } else {
        let message: admin::MachineServiceListRequest =
            serde_json::from_value(request.clone()).unwrap();
        message.encode_to_vec()
    };
    let client = client::Client::new(client::Config {
        url: world.url().to_owned(),
        token: client::TokenSource::Static(token.to_owned()),
        ca_cert_pem: None,
    });
    let path = format!("/metalstack.{package}.v2.MachineService/List");
    let client = client.expect("client");
    let bytes = world.runtime.block_on(client.call_binary(&path, bytes)).expect("an answer");
    // both answers have the same form
    let message = api::MachineServiceListResponse::decode_from_slice(&bytes).expect("a list");
    assert_eq!(serde_json::to_value(message).expect("JSON"), of_json);
    of_json["machines"].as_array().cloned().unwrap_or_default()
}

#[test]
fn both_forms_of_a_list_say_the_same() {
    on_all(|world| {
        let hall = Hall::new(world);
        hall.rack("r1", 4);
        let _waiting: Vec<_> = (1..4).map(|port| hall.machine("r1", port)).collect();
        let machine =
            hall.allocate(json!({"userdata": "aGVsbG8=", "labels": {"labels": {"a": "1"}}}));
        let uuid = text(&machine["uuid"]);
        // known by nothing but its id
        hall.event(&Hall::id("r1", 4), "PREPARING");
        let viewer = world.operator("viewer", api::AdminRole::Viewer);
        for (query, found) in [
            (json!({}), 4),
            (json!({"partition": "p1"}), 3),
            (json!({"uuid": uuid.to_uppercase()}), 1),
            (json!({"rack": "r1", "size": "c1"}), 3),
            (json!({"rack": "r2"}), 0),
            (json!({"notAllocated": true, "waiting": true}), 2),
            (json!({"allocation": {}}), 1),
            (json!({"allocation": {"project": hall.project}}), 1),
            (json!({"allocation": {"project": hall.project, "vpn": {}}}), 0),
            (json!({"allocation": {"project": hall.project, "hostname": "host2"}}), 0),
            (json!({"hardware": {"cpuCores": 4}}), 3),
        ] {
            for token in [&hall.admin, &viewer] {
                let machines = list(world, token, "admin", &json!({"query": query}));
                assert_eq!(machines.len(), found, "{query}");
                for machine in machines.iter().filter(|machine| machine["allocation"].is_object()) {
                    let shown = machine["allocation"]["userdata"].is_string();
                    assert_eq!(
                        shown,
                        *token == hall.admin,
                        "user data is for those who may change it"
                    );
                }
            }
        }
        let of_project = json!({"project": hall.project, "query": {"allocation": {"labels": {"labels": {"a": "1"}}}}});
        assert_eq!(list(world, &hall.user, "api", &of_project).len(), 1);
        assert_eq!(list(world, &hall.user, "api", &of_project)[0], hall.machine_of(&uuid));
    });
}

#[test]
fn what_an_older_version_wrote_counts() {
    on_all(|world| {
        let hall = Hall::new(world);
        hall.rack("r1", 2);
        let _waiting = (hall.machine("r1", 1), hall.machine("r1", 2));
        let uuid = Hall::id("r1", 1);
        let stale = || {
            world.runtime.block_on(async {
                let mut tx = world.db.begin_read().await.expect("begin");
                store::machine::unencoded(&mut tx, "", 10).await.expect("machines")
            })
        };
        assert!(stale().is_empty(), "this version writes both forms");
        // the statement of an older version does not know of the binary form
        world.runtime.block_on(async {
            let mut tx = world.db.begin_write().await.expect("begin");
            let row = TABLE.get_for_update(&mut tx, &uuid).await.expect("read").expect("machine");
            let mut body: Value = serde_json::from_str(&row.body).expect("JSON");
            body["room"] = json!("attic");
            let columns = [
                "p1".into(),
                "r1".into(),
                "c1".into(),
                None::<&str>.into(),
                None::<&str>.into(),
                3.into(),
            ];
            let next = row.next(body.to_string(), 2_000_000_000_000_000);
            assert!(TABLE.update(&mut tx, &next, &columns).await.expect("update"));
            tx.commit().await.expect("commit");
        });
        assert_eq!(stale().len(), 1);
        let machines = list(world, &hall.admin, "admin", &json!({}));
        assert_eq!(machines[0]["room"], "attic");
        assert_eq!(machines[0], hall.machine_of(&uuid));
        assert_eq!(
            list(world, &hall.admin, "admin", &json!({"query": {"room": "attic"}})).len(),
            1
        );

        // a server that starts adds what is missing and changes nothing else
        let before = hall.machine_of(&uuid);
        world.beside_a_new_one(|| hall.until("all have a binary form", || stale().is_empty()));
        assert_eq!(hall.machine_of(&uuid), before);
        assert_eq!(list(world, &hall.admin, "admin", &json!({})).len(), 2);

        // and the next change of this version is seen, too
        let state = json!({"uuid": uuid, "state": "MACHINE_STATE_TAINTED", "description": "test"});
        hall.op("MachineService/SetState", state);
        let machines = list(world, &hall.admin, "admin", &json!({}));
        assert_eq!(machines[0]["status"]["condition"]["state"], "MACHINE_STATE_TAINTED");
        assert_eq!(machines[0]["room"], "attic");
    });
}
