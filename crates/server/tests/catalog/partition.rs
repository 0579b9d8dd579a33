use serde_json::json;

use crate::files::Files;
use crate::world::{World, column, on_all};

const CREATE: &str = "admin.v2.PartitionService/Create";
const UPDATE: &str = "admin.v2.PartitionService/Update";
const DELETE: &str = "admin.v2.PartitionService/Delete";
const LIST: &str = "api.v2.PartitionService/List";

/// A partition with this id.
pub(crate) fn partition(world: &World, id: &str) {
    world.ok(&world.admin(), CREATE, json!({"partition": {"id": id}}));
}

#[test]
fn a_partition_is_made_changed_found_and_removed() {
    on_all(|world| {
        let (admin, user) = (world.admin(), world.login("alice"));
        let files = Files::start();
        let made = world.ok(
            &admin,
            CREATE,
            json!({"partition": {
                "id": "fra-1", "description": "first", "meta": {"labels": {"labels": {"a": "1"}}},
                "bootConfiguration": {"imageUrl": files.there(), "kernelUrl": files.there(), "commandline": "quiet"},
                "dnsServers": [{"ip": "1.1.1.1"}], "ntpServers": [{"address": "pool.ntp.org"}],
                "mgmtServiceAddresses": ["a:1", "b:2"],
            }}),
        );
        assert_eq!(made["partition"]["mgmtServiceAddresses"], json!(["a:1", "b:2"]), "all of them");
        assert_eq!(made["partition"]["meta"]["labels"]["labels"]["a"], "1");
        world.expect("already_exists", &admin, CREATE, json!({"partition": {"id": "fra-1"}}));
        partition(world, "aaa-1");

        let list = |request| column(&world.ok(&user, LIST, request)["partitions"], "id");
        assert_eq!(list(json!({})), "aaa-1 fra-1");
        assert_eq!(list(json!({"query": {"id": "fra-1"}})), "fra-1");
        assert_eq!(list(json!({"query": {"labels": {"labels": {"a": "1"}}}})), "fra-1");
        assert_eq!(list(json!({"query": {"labels": {"labels": {"a": "2"}}}})), "");

        let seen = made["partition"]["meta"]["updatedAt"].clone();
        let update = json!({"id": "fra-1", "updateMeta": {"updatedAt": seen}, "description": "new",
            "labels": {"patch": {"remove": ["a"], "update": {"labels": {"b": "2"}}}}});
        let changed = world.ok(&admin, UPDATE, update.clone())["partition"].clone();
        assert_eq!(changed["description"], "new");
        assert_eq!(changed["meta"]["labels"]["labels"], json!({"b": "2"}));
        assert_eq!(changed["meta"]["generation"], "1");
        assert_eq!(changed["dnsServers"], json!([{"ip": "1.1.1.1"}]), "what is absent stays");
        world.expect("aborted", &admin, UPDATE, update);
        let server = json!({"lockingStrategy": "OPTIMISTIC_LOCKING_STRATEGY_SERVER"});
        world.ok(
            &admin,
            UPDATE,
            json!({"id": "fra-1", "updateMeta": server, "description": "newer"}),
        );
        world.expect("not_found", &admin, UPDATE, json!({"id": "nowhere", "updateMeta": server}));
        world.expect("invalid_argument", &admin, UPDATE, json!({"id": "fra-1", "updateMeta": {}}));

        world.expect("permission_denied", &user, DELETE, json!({"id": "fra-1"}));
        let gone = world.ok(&admin, DELETE, json!({"id": "fra-1"}));
        assert_eq!(gone["partition"]["description"], "newer");
        world.expect("not_found", &admin, DELETE, json!({"id": "fra-1"}));
        world.expect("not_found", &user, "api.v2.PartitionService/Get", json!({"id": "fra-1"}));
    });
}

#[test]
fn what_machines_cannot_boot_is_refused() {
    on_all(|world| {
        let admin = world.admin();
        let files = Files::start();
        for url in [files.missing(), Files::nobody(), "ftp://127.0.0.1/there".to_owned()] {
            for field in ["imageUrl", "kernelUrl"] {
                let boot = json!({field: url});
                let request = json!({"partition": {"id": "fra-1", "bootConfiguration": boot}});
                world.expect("invalid_argument", &admin, CREATE, request);
            }
        }
        let six = vec![json!({"address": "a.ntp.org"}); 6];
        let request = json!({"partition": {"id": "fra-1", "ntpServers": six}});
        world.expect("invalid_argument", &admin, CREATE, request);
        world.expect("invalid_argument", &admin, CREATE, json!({"partition": {"id": "x"}}));
        partition(world, "fra-1");
        let server = json!({"lockingStrategy": "OPTIMISTIC_LOCKING_STRATEGY_SERVER"});
        let update = json!({"id": "fra-1", "updateMeta": server, "bootConfiguration": {"imageUrl": files.missing()}});
        world.expect("invalid_argument", &admin, UPDATE, update);
    });
}

#[test]
fn a_partition_with_a_network_stays() {
    on_all(|world| {
        let admin = world.admin();
        partition(world, "fra-1");
        world.ok(
            &admin,
            "admin.v2.NetworkService/Create",
            json!({"id": "underlay", "partition": "fra-1", "type": "NETWORK_TYPE_UNDERLAY", "prefixes": ["10.1.0.0/24"]}),
        );
        world.expect("failed_precondition", &admin, DELETE, json!({"id": "fra-1"}));
    });
}
