//! Private networks, carved from super networks.

use serde_json::json;

use crate::site::{Site, id, seen};
use crate::world::{code, column, on_all};

#[test]
fn a_private_network_gets_what_its_parent_gives() {
    on_all(|world| {
        let site = Site::new(world);
        let child = site.private(json!({"name": "mine"}));
        assert_eq!(child["type"], "NETWORK_TYPE_CHILD");
        assert_eq!(child["prefixes"], json!(["10.0.0.0/22", "fd00::/64"]));
        assert_eq!(child["destinationPrefixes"], json!(["1.2.3.0/24"]));
        assert_eq!(child["parentNetwork"], "super");
        assert_eq!(child["partition"], "p1");
        assert_eq!(child["natType"], "NAT_TYPE_NONE");
        assert_eq!(child["vrf"], 1, "a free one");
        assert_eq!(child["meta"]["createdAt"], child["meta"]["updatedAt"]);
        let second = site.private(json!({"parentNetwork": "super"}));
        assert_eq!(second["prefixes"], json!(["10.0.4.0/22", "fd00:0:0:1::/64"]));
        assert_eq!(second["partition"], "p1", "of the parent");
        assert_eq!(second["vrf"], 2);

        let get = |project: &str| {
            let request = json!({"id": id(&child), "project": project});
            world.call(&site.user, "api.v2.NetworkService/Get", request)
        };
        assert_eq!(get(&site.project).expect("own")["network"]["name"], "mine");
        assert_eq!(code(&get(&site.other)), "not_found");
        let list = |project: &str| {
            let request = json!({"project": project});
            column(&world.ok(&site.user, "api.v2.NetworkService/List", request)["networks"], "id")
        };
        assert_eq!(list(&site.project), format!("{} {}", id(&child), id(&second)));
        assert_eq!(list(&site.other), "");
    });
}

#[test]
fn lengths_and_families_are_those_of_the_request_or_the_parent() {
    on_all(|world| {
        let site = Site::new(world);
        let prefixes = |fields| site.private(fields)["prefixes"].clone();
        let v4 = "NETWORK_ADDRESS_FAMILY_V4";
        let v6 = "NETWORK_ADDRESS_FAMILY_V6";
        assert_eq!(prefixes(json!({"addressFamily": v4})), json!(["10.0.0.0/22"]));
        assert_eq!(prefixes(json!({"addressFamily": v6})), json!(["fd00::/64"]));
        assert_eq!(prefixes(json!({"length": {}})), json!(["10.0.4.0/22", "fd00:0:0:1::/64"]));
        assert_eq!(prefixes(json!({"length": {"ipv4": 24}})), json!(["10.0.8.0/24"]));
        let small = prefixes(json!({"length": {"ipv4": 25, "ipv6": 60}}));
        assert_eq!(
            small,
            json!(["10.0.9.0/25", "fd00:0:0:10::/60"]),
            "the smallest hole that fits"
        );
        for fields in [
            json!({"length": {"ipv4": 19}}),
            json!({"length": {"ipv6": 48}}),
            json!({"length": {"ipv4": 24}, "addressFamily": v6}),
        ] {
            let answer = site.try_private(fields.clone());
            assert_eq!(code(&answer), "invalid_argument", "{fields}: {answer:?}");
        }
    });
}

#[test]
fn parents_must_be_there_and_for_this_project() {
    on_all(|world| {
        let site = Site::empty(world);
        assert_eq!(code(&site.try_private(json!({}))), "failed_precondition", "no super network");
        assert_eq!(
            code(&site.try_private(json!({"parentNetwork": "nothing"}))),
            "failed_precondition"
        );
        site.make(json!({"id": "theirs", "type": "NETWORK_TYPE_SUPER", "partition": "p1", "project": site.other,
            "prefixes": ["10.0.0.0/16"], "defaultChildPrefixLength": {"ipv4": 22}, "vrf": 500}));
        assert_eq!(
            code(&site.try_private(json!({}))),
            "failed_precondition",
            "it belongs to another project"
        );
        assert_eq!(
            code(&site.try_private(json!({"parentNetwork": "theirs"}))),
            "failed_precondition",
            "as if it did not exist"
        );
        let request = json!({"project": site.other, "parentNetwork": "theirs"});
        let child =
            world.ok(&site.user, "api.v2.NetworkService/Create", request)["network"].clone();
        assert_eq!(child["vrf"], 500, "its parent's");
        site.make(json!({"id": "net", "type": "NETWORK_TYPE_EXTERNAL", "vrf": 7, "prefixes": ["10.9.0.0/16"]}));
        assert_eq!(code(&site.try_private(json!({"parentNetwork": "net"}))), "invalid_argument");
        let neither = world.call(
            &site.user,
            "api.v2.NetworkService/Create",
            json!({"project": site.project}),
        );
        assert_eq!(code(&neither), "invalid_argument");
        let both = json!({"project": site.project, "partition": "p1", "parentNetwork": "theirs"});
        assert_eq!(
            code(&world.call(&site.user, "api.v2.NetworkService/Create", both)),
            "invalid_argument"
        );
        // a child goes, the VRF of its parent stays
        site.delete(&id(&child)).expect("deleted");
        site.refused(
            "already_exists",
            json!({"id": "xx", "type": "NETWORK_TYPE_EXTERNAL", "vrf": 500,
            "prefixes": ["10.8.0.0/16"]}),
        );
        site.delete("theirs").expect("deleted");
        site.make(json!({"id": "xx", "type": "NETWORK_TYPE_EXTERNAL", "vrf": 500, "prefixes": ["10.8.0.0/16"]}));
    });
}

#[test]
fn space_and_vrf_come_back() {
    on_all(|world| {
        let site = Site::empty(world);
        site.make(json!({"id": "super", "type": "NETWORK_TYPE_SUPER", "partition": "p1",
            "prefixes": ["10.0.0.0/23", "10.0.8.0/23"], "defaultChildPrefixLength": {"ipv4": 25}}));
        let children: Vec<_> = (0..8).map(|_| site.private(json!({}))).collect();
        assert_eq!(
            children[5]["prefixes"],
            json!(["10.0.8.128/25"]),
            "the next prefix when one is full"
        );
        let full = site.try_private(json!({}));
        assert_eq!(code(&full), "resource_exhausted", "{full:?}");
        let own = |id: &str| {
            let request = json!({"id": id, "project": site.project});
            world.call(&site.user, "api.v2.NetworkService/Delete", request)
        };
        assert_eq!(code(&site.delete("super")), "failed_precondition");
        let gone = own(&id(&children[2])).expect("deleted");
        assert_eq!(gone["network"]["prefixes"], children[2]["prefixes"]);
        assert_eq!(code(&own(&id(&children[2]))), "not_found");
        let again = site.private(json!({}));
        assert_eq!(again["prefixes"], children[2]["prefixes"]);
        assert_eq!(again["vrf"], children[2]["vrf"], "the refused one took none");
        own(&id(&again)).expect("deleted");
        for child in children.iter().filter(|child| id(child) != id(&children[2])) {
            own(&id(child)).expect("deleted");
        }
        // in one piece
        let big = site.private(json!({"length": {"ipv4": 24}}));
        assert_eq!(big["prefixes"], json!(["10.0.0.0/24"]));
        own(&id(&big)).expect("deleted");
        site.delete("super").expect("deleted");
        assert_eq!(site.found(json!({})), "");
    });
}

#[test]
fn a_network_in_use_stays() {
    on_all(|world| {
        let site = Site::new(world);
        let child = id(&site.private(json!({})));
        let ip = site.ip(&child, json!({}));
        let delete = |project: &str| {
            let request = json!({"id": child, "project": project});
            code(&world.call(&site.user, "api.v2.NetworkService/Delete", request)).to_owned()
        };
        assert_eq!(delete(&site.other), "not_found");
        assert_eq!(delete(&site.project), "failed_precondition");
        let request = json!({"ip": ip["ip"], "project": site.project});
        world.ok(&site.user, "api.v2.IPService/Delete", request);
        assert_eq!(delete(&site.project), "ok");
    });
}

#[test]
fn every_project_sees_the_whole_of_a_namespaced_network() {
    on_all(|world| {
        let site = Site::empty(world);
        site.make(json!({"id": "spaces", "type": "NETWORK_TYPE_SUPER_NAMESPACED",
            "prefixes": ["10.0.0.0/16"], "defaultChildPrefixLength": {"ipv4": 22}}));
        let child = |project: &str| {
            let request = json!({"project": project, "parentNetwork": "spaces"});
            world.ok(&site.user, "api.v2.NetworkService/Create", request)["network"].clone()
        };
        let (one, two, other) = (child(&site.project), child(&site.project), child(&site.other));
        assert_eq!(one["prefixes"], json!(["10.0.0.0/22"]));
        assert_eq!(two["prefixes"], json!(["10.0.4.0/22"]));
        assert_eq!(other["prefixes"], json!(["10.0.0.0/22"]), "the same again");
        assert_eq!(one["namespace"], site.project.as_str());
        assert_ne!(one["vrf"], other["vrf"]);
        assert_eq!(site.found(json!({"namespace": site.other})), id(&other));

        let ip = site.ip(&id(&one), json!({"ip": "10.0.0.7"}));
        assert_eq!(ip["namespace"], site.project.as_str());
        let request = json!({"project": site.other, "network": id(&other), "ip": "10.0.0.7"});
        world.ok(&site.user, "api.v2.IPService/Create", request);
        let get = |namespace: Option<&str>| {
            let request =
                json!({"ip": "10.0.0.7", "project": site.project, "namespace": namespace});
            code(&world.call(&site.user, "api.v2.IPService/Get", request)).to_owned()
        };
        assert_eq!(get(Some(&site.project)), "ok");
        assert_eq!(get(None), "not_found", "nobody has it in the shared one");
        assert_eq!(get(Some(&site.other)), "not_found");
        // changed and given back although the requests name no namespace
        let request = json!({"ip": "10.0.0.7", "project": site.project, "updateMeta": seen(&ip), "name": "seven"});
        assert_eq!(world.ok(&site.user, "api.v2.IPService/Update", request)["ip"]["name"], "seven");
        assert_eq!(code(&site.delete("spaces")), "failed_precondition");
        for project in [&site.project, &site.other] {
            let request = json!({"ip": "10.0.0.7", "project": project});
            world.ok(&site.user, "api.v2.IPService/Delete", request);
        }
        for network in [&one, &two, &other] {
            site.delete(&id(network)).expect("deleted");
        }
        site.delete("spaces").expect("deleted");
    });
}

#[test]
fn a_shared_network_is_open_to_other_projects() {
    on_all(|world| {
        let site = Site::new(world);
        let shared = |project: &str| json!({"type": "NETWORK_TYPE_CHILD_SHARED", "partition": "p1", "project": project});
        let network = site.make(shared(&site.project));
        site.refused("invalid_argument", shared(&site.project));
        site.make(shared(&site.other));
        let request = json!({"project": site.other, "network": id(&network)});
        let ip = world.ok(&site.user, "api.v2.IPService/Create", request)["ip"].clone();
        assert_eq!((&ip["project"], &ip["network"]), (&json!(site.other), &network["id"]));
        let child = id(&site.private(json!({})));
        let request = json!({"project": site.other, "network": child});
        world.expect("not_found", &site.user, "api.v2.IPService/Create", request);
    });
}

#[test]
fn users_change_names_and_labels() {
    on_all(|world| {
        let site = Site::new(world);
        let child =
            site.private(json!({"name": "mine", "labels": {"labels": {"a": "1", "b": "2"}}}));
        let update = |meta: serde_json::Value, project: &str, fields: serde_json::Value| {
            let mut request = json!({"id": id(&child), "project": project, "updateMeta": meta});
            crate::site::merge(&mut request, fields);
            world.call(&site.user, "api.v2.NetworkService/Update", request)
        };
        assert_eq!(code(&update(seen(&child), &site.other, json!({"name": "xx"}))), "not_found");
        let labels = json!({"patch": {"remove": ["a"], "update": {"labels": {"c": "3"}}}});
        let fields = json!({"name": "yours", "description": "text", "labels": labels});
        let changed =
            update(seen(&child), &site.project, fields).expect("updated")["network"].clone();
        assert_eq!(changed["name"], "yours");
        assert_eq!(changed["description"], "text");
        assert_eq!(changed["meta"]["labels"]["labels"], json!({"b": "2", "c": "3"}));
        assert_eq!(changed["prefixes"], child["prefixes"]);
        let late = update(seen(&child), &site.project, json!({"name": "late"}));
        assert_eq!(code(&late), "aborted", "made of an older state");
        update(seen(&changed), &site.project, json!({"name": "again"})).expect("updated");
    });
}

#[test]
fn networks_that_are_made_at_once_do_not_overlap() {
    on_all(|world| {
        let site = Site::new(world);
        let prefixes = std::thread::scope(|scope| {
            let site = &site;
            let calls: Vec<_> = (0..6)
                .map(|_| {
                    scope.spawn(move || {
                        (0..5)
                            .map(|_| site.private(json!({}))["prefixes"].clone())
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            calls.into_iter().flat_map(|call| call.join().expect("calls")).collect::<Vec<_>>()
        });
        let apart: std::collections::BTreeSet<_> =
            prefixes.iter().map(ToString::to_string).collect();
        assert_eq!(apart.len(), 30, "{prefixes:?}");
        let list = world.ok(
            &site.admin,
            "admin.v2.NetworkService/List",
            json!({"query": {"parentNetwork": "super"}}),
        );
        let vrfs: std::collections::BTreeSet<_> = list["networks"]
            .as_array()
            .expect("list")
            .iter()
            .map(|n| n["vrf"].to_string())
            .collect();
        assert_eq!(vrfs.len(), 30, "each its own VRF");
    });
}
