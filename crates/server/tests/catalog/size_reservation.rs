use serde_json::json;

use crate::partition::partition;
use crate::size::size;
use crate::world::{column, on_all, text};

const CREATE: &str = "admin.v2.SizeReservationService/Create";
const UPDATE: &str = "admin.v2.SizeReservationService/Update";
const DELETE: &str = "admin.v2.SizeReservationService/Delete";

#[test]
fn a_reservation_belongs_to_its_project() {
    on_all(|world| {
        let (admin, alice, bob) = (world.admin(), world.login("alice"), world.login("bob"));
        let ours = world.project(&alice, "alice", "ours");
        let theirs = world.project(&bob, "bob", "theirs");
        partition(world, "fra-1");
        partition(world, "fra-2");
        size(world, "c1-small", 4);
        let request = |project: &str, partitions: &[&str]| {
            json!({"sizeReservation": {"name": "ci", "description": "", "project": project, "size": "c1-small",
                "partitions": partitions, "amount": 3}})
        };
        let nobody = "00000000-0000-4000-8000-000000000000";
        world.expect("failed_precondition", &admin, CREATE, request(nobody, &["fra-1"]));
        world.expect("failed_precondition", &admin, CREATE, request(&ours, &["fra-9"]));
        world.expect("invalid_argument", &admin, CREATE, request(&ours, &[]));
        world.expect("invalid_argument", &admin, CREATE, request(&ours, &["fra-1", "fra-1"]));
        let made = world.ok(&admin, CREATE, request(&ours, &["fra-1"]))["sizeReservation"].clone();
        let id = text(&made["id"]);
        world.ok(&admin, CREATE, request(&theirs, &["fra-1"]));

        let get = "api.v2.SizeReservationService/Get";
        world.ok(&alice, get, json!({"id": id, "project": ours}));
        world.expect("not_found", &bob, get, json!({"id": id, "project": theirs}));
        world.expect("permission_denied", &bob, get, json!({"id": id, "project": ours}));
        let list = "api.v2.SizeReservationService/List";
        let found = world.ok(&alice, list, json!({"project": ours}));
        assert_eq!(column(&found["sizeReservations"], "id"), id);
        let other = world.ok(&alice, list, json!({"project": ours, "query": {"project": theirs}}));
        assert_eq!(column(&other["sizeReservations"], "id"), "", "never those of others");
        let all = world.ok(
            &admin,
            "admin.v2.SizeReservationService/List",
            json!({"query": {"partition": "fra-1"}}),
        );
        assert_eq!(all["sizeReservations"].as_array().map(Vec::len), Some(2));

        let server = json!({"lockingStrategy": "OPTIMISTIC_LOCKING_STRATEGY_SERVER"});
        let update = json!({"id": id, "updateMeta": server, "amount": 5, "partitions": ["fra-2"]});
        assert_eq!(world.ok(&admin, UPDATE, update)["sizeReservation"]["amount"], 5);
        for (method, used) in [
            ("admin.v2.PartitionService/Delete", "fra-2"),
            ("admin.v2.SizeService/Delete", "c1-small"),
        ] {
            world.expect("failed_precondition", &admin, method, json!({"id": used}));
        }
        world.ok(&admin, DELETE, json!({"id": id}));
        world.ok(&admin, "admin.v2.PartitionService/Delete", json!({"id": "fra-2"}));
        world.expect("not_found", &admin, DELETE, json!({"id": id}));
    });
}
