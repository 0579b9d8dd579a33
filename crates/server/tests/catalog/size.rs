use serde_json::{Value, json};

use crate::world::{World, column, on_all};

const CREATE: &str = "admin.v2.SizeService/Create";
const UPDATE: &str = "admin.v2.SizeService/Update";
const DELETE: &str = "admin.v2.SizeService/Delete";
const LIST: &str = "api.v2.SizeService/List";

/// A size by its cores.
pub(crate) fn size(world: &World, id: &str, cores: u64) {
    world.ok(&world.admin(), CREATE, by_cores(id, cores, cores));
}

fn by_cores(id: &str, min: u64, max: u64) -> Value {
    json!({"size": {"id": id, "constraints": [
        constraint("CORES", min, max),
        constraint("MEMORY", 1, 1 << 40),
        constraint("STORAGE", 0, 1 << 50),
    ]}})
}

fn constraint(kind: &str, min: u64, max: u64) -> Value {
    json!({"type": format!("SIZE_CONSTRAINT_TYPE_{kind}"), "min": min.to_string(), "max": max.to_string()})
}

#[test]
fn a_size_is_made_changed_found_and_removed() {
    on_all(|world| {
        let (admin, user) = (world.admin(), world.login("alice"));
        let mut request = by_cores("c1-small", 4, 4);
        request["size"]["name"] = json!("small");
        world.ok(&admin, CREATE, request.clone());
        world.expect("already_exists", &admin, CREATE, request);
        size(world, "c1-large", 8);

        let list = |request| column(&world.ok(&user, LIST, request)["sizes"], "id");
        assert_eq!(list(json!({})), "c1-large c1-small");
        assert_eq!(list(json!({"query": {"name": "small"}})), "c1-small");
        assert_eq!(list(json!({"query": {"id": "c1-none"}})), "");

        let server = json!({"lockingStrategy": "OPTIMISTIC_LOCKING_STRATEGY_SERVER"});
        let update = json!({"id": "c1-small", "updateMeta": server, "description": "four cores",
            "labels": {"replace": {"labels": {"a": "1"}}}});
        let changed = world.ok(&admin, UPDATE, update)["size"].clone();
        assert_eq!(changed["description"], "four cores");
        assert_eq!(changed["constraints"].as_array().map(Vec::len), Some(3), "they stay");
        assert_eq!(list(json!({"query": {"labels": {"labels": {"a": "1"}}}})), "c1-small");

        world.ok(&admin, DELETE, json!({"id": "c1-small"}));
        world.expect("not_found", &user, "api.v2.SizeService/Get", json!({"id": "c1-small"}));
    });
}

#[test]
fn sizes_that_overlap_or_contradict_themselves_are_refused() {
    on_all(|world| {
        let admin = world.admin();
        let refuse = |request: Value| world.expect("invalid_argument", &admin, CREATE, request);
        size(world, "c1-small", 4);
        refuse(by_cores("c1-same", 1, 4));
        refuse(by_cores("c1-turned", 7, 6));
        let with = |extra: Value| {
            let mut request = by_cores("c1-new", 32, 32);
            request["size"]["constraints"].as_array_mut().expect("a list").push(extra);
            request
        };
        refuse(with(constraint("CORES", 1, 1)));
        refuse(with(constraint("GPU", 1, 1)));
        refuse(with(json!({"min": "1", "max": "1"})));
        let mut broken = constraint("GPU", 1, 1);
        broken["identifier"] = json!("[");
        refuse(with(broken.clone()));
        broken["identifier"] = json!("AD102*");
        world.ok(&admin, CREATE, with(broken));

        size(world, "c1-large", 8);
        let server = json!({"lockingStrategy": "OPTIMISTIC_LOCKING_STRATEGY_SERVER"});
        let grown = by_cores("", 4, 8)["size"]["constraints"].clone();
        let update = json!({"id": "c1-large", "updateMeta": server, "constraints": grown});
        world.expect("invalid_argument", &admin, UPDATE, update);
    });
}

#[test]
fn of_two_sizes_that_overlap_made_at_once_one_is_left() {
    on_all(|world| {
        let admin = world.admin();
        let answers: Vec<_> = std::thread::scope(|scope| {
            let calls: Vec<_> = (0..6)
                .map(|n| {
                    let admin = &admin;
                    scope.spawn(move || {
                        world.call(admin, CREATE, by_cores(&format!("c1-{n}x"), 4, 4))
                    })
                })
                .collect();
            calls.into_iter().map(|call| call.join().expect("a thread")).collect()
        });
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
    });
}
