//! Networks whose prefixes operators choose.

use serde_json::json;

use crate::site::{Site, id, seen};
use crate::world::{code, column, on_all};

const UPDATE: &str = "admin.v2.NetworkService/Update";

#[test]
fn each_type_is_made_of_its_own_fields() {
    on_all(|world| {
        let site = Site::new(world);
        let both = json!({"ipv4": 22, "ipv6": 64});
        let super_of = |id: &str, partition: &str, net: &str| {
            json!({"id": id, "type": "NETWORK_TYPE_SUPER", "partition": partition, "prefixes": [net],
                "defaultChildPrefixLength": {"ipv4": 22}})
        };
        site.refused("invalid_argument", super_of("second", "p1", "10.9.0.0/16"));
        site.make(super_of("in-p2", "p2", "10.9.0.0/16"));
        site.make(
            json!({"id": "anywhere", "type": "NETWORK_TYPE_SUPER", "prefixes": ["10.8.0.0/16"],
            "defaultChildPrefixLength": {"ipv4": 22}}),
        );
        site.make(
            json!({"id": "anywhere-2", "type": "NETWORK_TYPE_SUPER", "prefixes": ["10.7.0.0/16"],
            "defaultChildPrefixLength": {"ipv4": 22}}),
        );
        for (why, network) in [
            ("no type", json!({"id": "xx", "prefixes": ["10.6.0.0/16"]})),
            (
                "no lengths",
                json!({"id": "xx", "type": "NETWORK_TYPE_SUPER", "prefixes": ["10.6.0.0/16"]}),
            ),
            (
                "a family without prefixes",
                json!({"id": "xx", "type": "NETWORK_TYPE_SUPER",
                "prefixes": ["10.6.0.0/16"], "defaultChildPrefixLength": both}),
            ),
            (
                "children as big as the parent",
                json!({"id": "xx", "type": "NETWORK_TYPE_SUPER",
                "prefixes": ["10.6.0.0/22"], "defaultChildPrefixLength": {"ipv4": 22}}),
            ),
            (
                "namespaced in a partition",
                json!({"id": "xx", "type": "NETWORK_TYPE_SUPER_NAMESPACED",
                "partition": "p1", "prefixes": ["10.6.0.0/16"], "defaultChildPrefixLength": {"ipv4": 22}}),
            ),
            (
                "external without vrf",
                json!({"id": "xx", "type": "NETWORK_TYPE_EXTERNAL", "prefixes": ["10.6.0.0/16"]}),
            ),
            (
                "underlay with v6",
                json!({"id": "xx", "type": "NETWORK_TYPE_UNDERLAY", "partition": "p1",
                "prefixes": ["fd77::/64"]}),
            ),
            (
                "underlay of a project",
                json!({"id": "xx", "type": "NETWORK_TYPE_UNDERLAY", "partition": "p1",
                "project": site.project, "prefixes": ["10.6.0.0/16"]}),
            ),
            (
                "destinations of another family",
                json!({"id": "xx", "type": "NETWORK_TYPE_EXTERNAL", "vrf": 7,
                "prefixes": ["10.6.0.0/16"], "destinationPrefixes": ["::/0"]}),
            ),
            (
                "vrf out of range",
                json!({"id": "xx", "type": "NETWORK_TYPE_EXTERNAL", "vrf": 131_073,
                "prefixes": ["10.6.0.0/16"]}),
            ),
            (
                "vrf nought",
                json!({"id": "xx", "type": "NETWORK_TYPE_EXTERNAL", "vrf": 0, "prefixes": ["10.6.0.0/16"]}),
            ),
        ] {
            let sentence = site.refused("invalid_argument", network);
            assert!(!sentence.is_empty(), "{why}");
        }
        let off = json!({"id": "xx", "type": "NETWORK_TYPE_EXTERNAL", "vrf": 7, "prefixes": ["10.6.0.1/16"]});
        assert!(site.refused("invalid_argument", off).contains("10.6.0.0/16"), "canonical form");
        assert_eq!(site.found(json!({"id": "xx"})), "", "what was refused left nothing");
        // not even the VRF of a refused network
        site.make(json!({"id": "xx", "type": "NETWORK_TYPE_EXTERNAL", "vrf": 7, "prefixes": ["10.6.0.0/16"]}));
    });
}

#[test]
fn what_is_taken_is_named() {
    on_all(|world| {
        let site = Site::new(world);
        let external = |id: &str, vrf: u32, nets: &[&str]| json!({"id": id, "type": "NETWORK_TYPE_EXTERNAL", "vrf": vrf, "prefixes": nets});
        site.refused("already_exists", external("internet", 9, &["10.9.0.0/16"]));
        site.refused("already_exists", external("yy", 104, &["10.9.0.0/16"]));
        let overlap = site.refused("already_exists", external("yy", 9, &["10.0.4.0/22"]));
        assert!(overlap.contains("overlaps") && overlap.contains("super"), "{overlap}");
        site.refused("already_exists", external("yy", 9, &["10.9.0.0/16", "10.9.1.0/24"]));
        let mut unknown = external("yy", 9, &["10.9.0.0/16"]);
        unknown["partition"] = "nowhere".into();
        site.refused("failed_precondition", unknown);
        let mut unknown = external("yy", 9, &["10.9.0.0/16"]);
        unknown["project"] = "00000000-0000-0000-0000-000000000001".into();
        site.refused("failed_precondition", unknown);
        site.make(external("yy", 9, &["10.9.0.0/16", "10.10.0.0/16", "fd77::/64"]));
        assert_eq!(site.get("yy")["prefixes"], json!(["10.9.0.0/16", "10.10.0.0/16", "fd77::/64"]));
        // the numbers come back with the network
        site.delete("yy").expect("deleted");
        site.make(external("zz", 9, &["10.9.0.0/16"]));
    });
}

#[test]
fn of_many_who_make_the_same_network_one_wins() {
    on_all(|world| {
        let site = Site::empty(world);
        let codes = std::thread::scope(|scope| {
            let calls: Vec<_> = (0..6)
                .map(|n| {
                    let network = json!({"id": format!("n{n}"), "type": "NETWORK_TYPE_SUPER", "partition": "p1",
                        "vrf": 44, "prefixes": [format!("10.0.0.0/{}", 8 + n)],
                        "defaultChildPrefixLength": {"ipv4": 22}});
                    scope.spawn(|| world.call(&site.admin, crate::site::CREATE, network))
                })
                .collect();
            calls
                .into_iter()
                .map(|call| code(&call.join().expect("call")).to_owned())
                .collect::<Vec<_>>()
        });
        assert_eq!(codes.iter().filter(|code| *code == "ok").count(), 1, "{codes:?}");
        assert!(
            codes
                .iter()
                .all(|code| ["ok", "already_exists", "invalid_argument"].contains(&code.as_str())),
            "{codes:?}"
        );
    });
}

#[test]
fn prefixes_are_changed_as_a_whole_list() {
    on_all(|world| {
        let site = Site::new(world);
        let update = |id: &str, fields: serde_json::Value| {
            let mut request = json!({"id": id, "updateMeta": {"lockingStrategy": "OPTIMISTIC_LOCKING_STRATEGY_SERVER"}});
            crate::site::merge(&mut request, fields);
            world.call(&site.admin, UPDATE, request)
        };
        let ip = site.ip("internet", json!({}));
        assert_eq!(ip["ip"], "212.34.83.1");
        for (wanted, prefixes) in [
            ("failed_precondition", json!(["198.51.100.0/24", "2001:db8::/64"])),
            ("already_exists", json!(["212.34.83.0/29", "10.0.0.0/24", "2001:db8::/64"])),
            ("already_exists", json!(["212.34.83.0/29", "212.34.83.0/30", "2001:db8::/64"])),
            ("invalid_argument", json!(["212.34.83.0/29"])),
            ("invalid_argument", json!(["212.34.83.1/29", "2001:db8::/64"])),
        ] {
            let answer = update("internet", json!({"prefixes": prefixes}));
            // without an IPv6 prefix there is nothing that leads to ::/0
            assert_eq!(code(&answer), wanted, "{prefixes}: {answer:?}");
        }
        let wanted = json!(["2001:db8::/64", "198.51.100.0/24", "212.34.83.0/29"]);
        update("internet", json!({"prefixes": wanted})).expect("updated");
        assert_eq!(site.get("internet")["prefixes"], wanted);
        assert_eq!(site.ip("internet", json!({}))["ip"], "198.51.100.1", "in the new order");
        // the space that was given up is free for others
        update(
            "internet",
            json!({"prefixes": ["198.51.100.0/24", "212.34.83.0/29", "2001:db8:1::/64"]}),
        )
        .expect("updated");
        site.make(json!({"id": "other", "type": "NETWORK_TYPE_EXTERNAL", "vrf": 9, "prefixes": ["2001:db8::/64"]}));

        // nothing said about prefixes leaves them
        update("internet", json!({"name": "net"})).expect("updated");
        assert_eq!(site.get("internet")["prefixes"].as_array().map(Vec::len), Some(3));

        let child = site.private(json!({}));
        assert_eq!(
            code(&update(&id(&child), json!({"prefixes": ["10.0.4.0/22"]}))),
            "invalid_argument"
        );
        let lost = update("super", json!({"prefixes": ["10.5.0.0/16", "fd00::/48"]}));
        assert_eq!(code(&lost), "failed_precondition", "a child lives there: {lost:?}");
        update("super", json!({"prefixes": ["10.0.0.0/16", "10.5.0.0/16", "fd00::/48"]}))
            .expect("more room");
        let too_small = update(
            "super",
            json!({"prefixes": ["10.0.0.0/16", "10.5.0.0/16", "10.6.0.0/24", "fd00::/48"]}),
        );
        assert_eq!(code(&too_small), "invalid_argument", "{too_small:?}");
    });
}

#[test]
fn other_fields_are_changed_and_judged_with_the_whole() {
    on_all(|world| {
        let site = Site::new(world);
        let update = |id: &str, fields: serde_json::Value| {
            let mut request = json!({"id": id, "updateMeta": seen(&site.get(id))});
            crate::site::merge(&mut request, fields);
            world.call(&site.admin, UPDATE, request)
        };
        update("super", json!({"minChildPrefixLength": {"ipv4": 18}})).expect("min is stored");
        assert_eq!(site.get("super")["minChildPrefixLength"], json!({"ipv4": 18}));
        update("super", json!({"defaultChildPrefixLength": {"ipv4": 24, "ipv6": 60}}))
            .expect("default");
        for (id, fields) in [
            ("super", json!({"defaultChildPrefixLength": {"ipv4": 24}})),
            ("super", json!({"defaultChildPrefixLength": {"ipv4": 16, "ipv6": 60}})),
            ("super", json!({"defaultChildPrefixLength": {"ipv4": 17, "ipv6": 60}})),
            ("internet", json!({"defaultChildPrefixLength": {"ipv4": 30}})),
            ("internet", json!({"additionalAnnouncableCidrs": ["10.240.0.0/12"]})),
            ("underlay", json!({"destinationPrefixes": ["0.0.0.0/0"]})),
            ("underlay", json!({"natType": "NAT_TYPE_IPV4_MASQUERADE"})),
            ("underlay", json!({"prefixes": ["10.253.0.0/24", "fd77::/64"]})),
        ] {
            let answer = update(id, fields.clone());
            assert_eq!(code(&answer), "invalid_argument", "{id} {fields}: {answer:?}");
        }
        let announce = |cidrs: serde_json::Value, force: bool| {
            code(&update("super", json!({"additionalAnnouncableCidrs": cidrs, "force": force})))
                .to_owned()
        };
        assert_eq!(announce(json!(["10.240.0.0/12", "10.200.0.0/16"]), false), "ok");
        assert_eq!(announce(json!(["10.240.0.0/12"]), false), "invalid_argument");
        assert_eq!(announce(json!(["10.240.0.0/12"]), true), "ok");
        assert_eq!(site.get("super")["additionalAnnouncableCidrs"], json!(["10.240.0.0/12"]));

        let old = seen(&site.get("internet"));
        update(
            "internet",
            json!({"natType": "NAT_TYPE_NONE", "destinationPrefixes": ["0.0.0.0/0"],
            "labels": {"patch": {"update": {"labels": {"a": "b"}}}}}),
        )
        .expect("updated");
        let network = site.get("internet");
        assert_eq!(network["natType"], "NAT_TYPE_NONE");
        assert_eq!(network["destinationPrefixes"], json!(["0.0.0.0/0"]));
        assert_eq!(network["meta"]["labels"]["labels"], json!({"a": "b"}));
        assert_eq!(network["meta"]["generation"], "1");
        world.expect(
            "aborted",
            &site.admin,
            UPDATE,
            json!({"id": "internet", "updateMeta": old, "name": "late"}),
        );
        world.expect(
            "invalid_argument",
            &site.admin,
            UPDATE,
            json!({"id": "internet", "updateMeta": {}, "name": "late"}),
        );
        world.expect(
            "not_found",
            &site.admin,
            UPDATE,
            json!({"id": "nothing", "updateMeta": old, "name": "late"}),
        );
    });
}

#[test]
fn networks_are_found_by_each_field() {
    on_all(|world| {
        let site = Site::new(world);
        let child = id(&site.private(json!({"name": "mine", "labels": {"labels": {"k": "v"}}})));
        for (query, expected) in [
            (json!({}), format!("{child} internet super underlay")),
            (json!({"id": "super"}), "super".to_owned()),
            (json!({"name": "mine"}), child.clone()),
            (json!({"partition": "p1"}), format!("{child} super underlay")),
            (json!({"project": site.project}), child.clone()),
            (json!({"parentNetwork": "super"}), child.clone()),
            (json!({"vrf": 104}), "internet".to_owned()),
            (json!({"type": "NETWORK_TYPE_UNDERLAY"}), "underlay".to_owned()),
            (json!({"natType": "NAT_TYPE_IPV4_MASQUERADE"}), "internet".to_owned()),
            (json!({"prefixes": ["fd00::/48"]}), "super".to_owned()),
            (json!({"destinationPrefixes": ["1.2.3.0/24"]}), format!("{child} super")),
            (
                json!({"addressFamily": "NETWORK_ADDRESS_FAMILY_V4"}),
                format!("{child} internet super underlay"),
            ),
            (
                json!({"addressFamily": "NETWORK_ADDRESS_FAMILY_DUAL_STACK"}),
                format!("{child} internet super"),
            ),
            (json!({"labels": {"labels": {"k": "v"}}}), child.clone()),
            (json!({"labels": {"labels": {"k": "w"}}}), String::new()),
            (json!({"type": "NETWORK_TYPE_CHILD", "partition": "p2"}), String::new()),
        ] {
            assert_eq!(site.found(query.clone()), expected, "{query}");
        }
        let base = |project: &str| {
            let list = world.ok(
                &site.user,
                "api.v2.NetworkService/ListBaseNetworks",
                json!({"project": project}),
            );
            assert!(
                list["networks"]
                    .as_array()
                    .expect("list")
                    .iter()
                    .all(|n| n.get("consumption").is_none() || n["project"] == *project),
                "consumption of others: {list}"
            );
            column(&list["networks"], "id")
        };
        assert_eq!(base(&site.project), format!("{child} internet super"));
        assert_eq!(base(&site.other), "internet super");
    });
}

#[test]
fn consumption_counts_what_is_taken() {
    on_all(|world| {
        let site = Site::new(world);
        let usage = |id: &str| site.get(id)["consumption"].clone();
        assert_eq!(
            usage("internet")["ipv4"],
            json!({"availableIps": "8", "usedIps": "2", "availablePrefixes": "1"})
        );
        assert_eq!(usage("internet")["ipv6"]["usedIps"], "1");
        site.ip("internet", json!({}));
        assert_eq!(usage("internet")["ipv4"]["usedIps"], "3");
        assert_eq!(
            usage("super")["ipv4"],
            json!({"availableIps": "65536", "usedIps": "2", "availablePrefixes": "1"})
        );
        let child = site.private(json!({}));
        assert_eq!(
            child["consumption"]["ipv4"],
            json!({"availableIps": "1024", "usedIps": "2", "availablePrefixes": "1"})
        );
        // a /22 out of a /16 leaves a block of each length between
        assert_eq!(
            usage("super")["ipv4"],
            json!({"availableIps": "65536", "usedIps": "2", "availablePrefixes": "6", "usedPrefixes": "1"})
        );
        site.delete(&id(&child)).expect("deleted");
        assert_eq!(usage("super")["ipv4"]["availablePrefixes"], "1");
    });
}
