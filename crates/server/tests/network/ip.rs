//! Addresses that users take.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::site::{Site, id, merge, seen};
use crate::world::{code, column, on_all, text};

const MACHINE: &str = "00000000-0000-4000-8000-000000000001";

#[test]
fn the_lowest_free_address_is_taken_until_none_is_left() {
    on_all(|world| {
        let site = Site::new(world);
        let take = |fields: Value| text(&site.ip("internet", fields)["ip"]);
        assert_eq!(take(json!({})), "212.34.83.1", "IPv4 when the network has it");
        assert_eq!(take(json!({"addressFamily": "IP_ADDRESS_FAMILY_V6"})), "2001:db8::1");
        assert_eq!(take(json!({"ip": "212.34.83.3"})), "212.34.83.3");
        assert_eq!(take(json!({"ip": "2001:DB8::0:2"})), "2001:db8::2", "as addresses are written");
        assert_eq!(take(json!({})), "212.34.83.2");
        assert_eq!(take(json!({})), "212.34.83.4");
        assert_eq!(take(json!({"addressFamily": "IP_ADDRESS_FAMILY_V6"})), "2001:db8::3");
        take(json!({"addressFamily": "IP_ADDRESS_FAMILY_V4"}));
        take(json!({}));
        let full = site.try_ip("internet", json!({}));
        assert_eq!(code(&full), "resource_exhausted", "{full:?}");

        let request = json!({"ip": "212.34.83.3", "project": site.project});
        let freed = world.ok(&site.user, "api.v2.IPService/Delete", request.clone())["ip"].clone();
        assert_eq!(freed["ip"], "212.34.83.3");
        world.expect("not_found", &site.user, "api.v2.IPService/Delete", request);
        let again = site.ip("internet", json!({}));
        assert_eq!(again["ip"], "212.34.83.3");
        assert_ne!(again["uuid"], freed["uuid"], "another taking");
    });
}

#[test]
fn what_cannot_be_had_is_refused_and_takes_nothing() {
    on_all(|world| {
        let site = Site::new(world);
        site.ip("internet", json!({"ip": "212.34.83.3"}));
        for (wanted, network, fields) in [
            ("invalid_argument", "internet", json!({"ip": "212.34.83.3"})),
            ("invalid_argument", "internet", json!({"ip": "212.34.83.0"})),
            ("invalid_argument", "internet", json!({"ip": "212.34.83.7"})),
            ("invalid_argument", "internet", json!({"ip": "212.34.84.1"})),
            ("invalid_argument", "internet", json!({"ip": "nonsense"})),
            (
                "invalid_argument",
                "internet",
                json!({"ip": "212.34.83.4", "addressFamily": "IP_ADDRESS_FAMILY_V4"}),
            ),
            ("not_found", "nothing", json!({})),
            ("invalid_argument", "super", json!({})),
            ("permission_denied", "underlay", json!({})),
            ("not_found", "internet", json!({"machine": MACHINE})),
            (
                "invalid_argument",
                "internet",
                json!({"labels": {"labels": {"machine.metal-stack.io/id": MACHINE}}}),
            ),
        ] {
            let answer = site.try_ip(network, fields.clone());
            assert_eq!(code(&answer), wanted, "{network} {fields}: {answer:?}");
        }
        let only_v4 = id(&site.private(json!({"addressFamily": "NETWORK_ADDRESS_FAMILY_V4"})));
        let v6 = site.try_ip(&only_v4, json!({"addressFamily": "IP_ADDRESS_FAMILY_V6"}));
        assert_eq!(code(&v6), "invalid_argument", "{v6:?}");
        let only_v6 = id(&site.private(json!({"addressFamily": "NETWORK_ADDRESS_FAMILY_V6"})));
        assert_eq!(site.ip(&only_v6, json!({}))["ip"], "fd00::1");
        site.make(
            json!({"id": "theirs", "type": "NETWORK_TYPE_EXTERNAL", "vrf": 8, "project": site.other,
            "prefixes": ["10.77.0.0/24"]}),
        );
        assert_eq!(code(&site.try_ip("theirs", json!({}))), "not_found");
        // operators take loopbacks for switches
        let request = json!({"project": site.project, "network": "underlay"});
        let underlay = world.ok(&site.admin, "api.v2.IPService/Create", request);
        assert_eq!(underlay["ip"]["ip"], "10.253.0.1");
        let request =
            json!({"project": "00000000-0000-4000-8000-00000000abcd", "network": "internet"});
        world.expect("failed_precondition", &site.admin, "api.v2.IPService/Create", request);
        assert_eq!(site.ip("internet", json!({}))["ip"], "212.34.83.1", "nothing was lost");
    });
}

#[test]
fn an_address_is_changed_by_who_saw_its_last_state() {
    on_all(|world| {
        let site = Site::new(world);
        let ip = site.ip("internet", json!({"name": "web", "labels": {"labels": {"a": "1"}}}));
        assert_eq!((&ip["name"], &ip["type"]), (&json!("web"), &json!("IP_TYPE_EPHEMERAL")));
        let update = |meta: Value, fields: Value| {
            let mut request = json!({"ip": ip["ip"], "project": site.project, "updateMeta": meta});
            merge(&mut request, fields);
            world.call(&site.user, "api.v2.IPService/Update", request)
        };
        let changed = update(
            seen(&ip),
            json!({"name": "mail", "description": "text", "type": "IP_TYPE_STATIC",
            "labels": {"replace": {"labels": {"b": "2"}}}}),
        )
        .expect("updated")["ip"]
            .clone();
        assert_eq!((&changed["name"], &changed["description"]), (&json!("mail"), &json!("text")));
        assert_eq!(changed["meta"]["labels"]["labels"], json!({"b": "2"}));
        assert_eq!(changed["uuid"], ip["uuid"]);
        assert_eq!(code(&update(seen(&ip), json!({"name": "late"}))), "aborted");
        for kind in ["IP_TYPE_EPHEMERAL", "IP_TYPE_UNSPECIFIED"] {
            let answer = update(seen(&changed), json!({"type": kind}));
            assert_eq!(code(&answer), "invalid_argument", "{kind}: {answer:?}");
        }
        let other = json!({"ip": ip["ip"], "project": site.other, "updateMeta": seen(&changed), "name": "mine"});
        world.expect("not_found", &site.user, "api.v2.IPService/Update", other);
        let get = json!({"ip": ip["ip"], "project": site.other});
        world.expect("not_found", &site.user, "api.v2.IPService/Get", get.clone());
        world.expect("not_found", &site.user, "api.v2.IPService/Delete", get);
    });
}

#[test]
fn an_address_of_a_machine_cannot_be_deleted_or_detached_by_labels() {
    on_all(|world| {
        let site = Site::new(world);
        site.machine(MACHINE);
        let ip = site.ip("internet", json!({"machine": MACHINE, "labels": {"labels": {"a": "1"}}}));
        assert_eq!(
            ip["meta"]["labels"]["labels"],
            json!({"a": "1", "machine.metal-stack.io/id": MACHINE})
        );
        let request = json!({"ip": ip["ip"], "project": site.project});
        world.expect("invalid_argument", &site.user, "api.v2.IPService/Delete", request);
        let update = |labels: Value| {
            let request = json!({"ip": ip["ip"], "project": site.project, "labels": labels,
                "updateMeta": {"lockingStrategy": "OPTIMISTIC_LOCKING_STRATEGY_SERVER"}});
            world.call(&site.user, "api.v2.IPService/Update", request)
        };
        let detach = update(json!({"patch": {"remove": ["machine.metal-stack.io/id"]}}));
        assert_eq!(code(&detach), "invalid_argument", "{detach:?}");
        let other =
            json!({"patch": {"update": {"labels": {"machine.metal-stack.io/id": "other"}}}});
        assert_eq!(code(&update(other)), "invalid_argument");
        let replaced = update(json!({"replace": {"labels": {"b": "2"}}})).expect("updated");
        assert_eq!(
            replaced["ip"]["meta"]["labels"]["labels"],
            json!({"b": "2", "machine.metal-stack.io/id": MACHINE})
        );
        let free = site.ip("internet", json!({}));
        let request = json!({"ip": free["ip"], "project": site.project, "updateMeta": seen(&free),
            "labels": {"patch": {"update": {"labels": {"machine.metal-stack.io/id": MACHINE}}}}});
        world.expect("invalid_argument", &site.user, "api.v2.IPService/Update", request);
    });
}

#[test]
fn addresses_are_found_by_each_field() {
    on_all(|world| {
        let site = Site::new(world);
        site.machine(MACHINE);
        let child = id(&site.private(json!({})));
        let ten = site
            .ip("internet", json!({"ip": "2001:db8::10", "type": "IP_TYPE_STATIC", "name": "ten"}));
        site.ip("internet", json!({"labels": {"labels": {"k": "v"}}}));
        site.ip("internet", json!({"ip": "2001:db8::9", "machine": MACHINE}));
        site.ip(&child, json!({}));
        let request = json!({"project": site.other, "network": "internet"});
        world.ok(&site.user, "api.v2.IPService/Create", request);
        let find = |query: Value| {
            let request = json!({"project": site.project, "query": query});
            column(&world.ok(&site.user, "api.v2.IPService/List", request)["ips"], "ip")
        };
        let all = "10.0.0.1 212.34.83.1 2001:db8::9 2001:db8::10";
        for (query, expected) in [
            (json!({}), all),
            (json!({"ip": "2001:db8::10"}), "2001:db8::10"),
            (json!({"uuid": ten["uuid"]}), "2001:db8::10"),
            (json!({"name": "ten"}), "2001:db8::10"),
            (json!({"network": child}), "10.0.0.1"),
            (json!({"project": site.other}), ""),
            (json!({"machine": MACHINE}), "2001:db8::9"),
            (json!({"parentPrefixCidr": "2001:db8::/64"}), "2001:db8::9 2001:db8::10"),
            (json!({"labels": {"labels": {"k": "v"}}}), "212.34.83.1"),
            (json!({"type": "IP_TYPE_STATIC"}), "2001:db8::10"),
            (json!({"addressFamily": "IP_ADDRESS_FAMILY_V4"}), "10.0.0.1 212.34.83.1"),
            (json!({"namespace": site.project}), ""),
            (json!({"type": "IP_TYPE_STATIC", "addressFamily": "IP_ADDRESS_FAMILY_V4"}), ""),
        ] {
            assert_eq!(find(query.clone()), expected, "{query}");
        }
        let all = world.ok(&site.admin, "admin.v2.IPService/List", json!({}));
        assert_eq!(
            column(&all["ips"], "ip"),
            "10.0.0.1 212.34.83.1 212.34.83.2 2001:db8::9 2001:db8::10"
        );
    });
}

#[test]
fn addresses_that_are_taken_at_once_are_different() {
    on_all(|world| {
        let site = Site::new(world);
        let network = id(&site.private(json!({"length": {"ipv4": 24}})));
        let ips = std::thread::scope(|scope| {
            let (site, network) = (&site, &network);
            let calls: Vec<_> = (0..8)
                .map(|n| {
                    scope.spawn(move || {
                        let mut kept = Vec::new();
                        for i in 0..20 {
                            let ip = text(&site.ip(network, json!({}))["ip"]);
                            if (i + n) % 4 == 0 {
                                let request = json!({"ip": ip, "project": site.project});
                                site.world.ok(&site.user, "api.v2.IPService/Delete", request);
                            } else {
                                kept.push(ip);
                            }
                        }
                        kept
                    })
                })
                .collect();
            calls.into_iter().flat_map(|call| call.join().expect("calls")).collect::<Vec<_>>()
        });
        let apart: BTreeSet<_> = ips.iter().collect();
        assert_eq!((apart.len(), ips.len()), (120, 120), "{ips:?}");
        assert_eq!(site.get(&network)["consumption"]["ipv4"]["usedIps"], "122");
        // what is left is what was not taken
        for _ in 0..134 {
            site.ip(&network, json!({}));
        }
        assert_eq!(code(&site.try_ip(&network, json!({}))), "resource_exhausted");
    });
}

#[test]
fn who_asks_at_the_same_time_gets_what_each_would_get_alone() {
    on_all(|world| {
        let site = Site::new(world);
        let private = id(&site.private(json!({})));
        let mine = site.project.as_str();
        let nobody = "00000000-0000-4000-8000-00000000abcd";
        // the internet has six addresses of IPv4, and two are asked for that nobody has
        let asked: Vec<_> = (0..48)
            .map(|number| match number % 8 {
                0 | 4 => (mine, "internet", "V4", "resource_exhausted"),
                1 => (mine, "internet", "V6", ""),
                2 => (mine, "nothing", "V4", "not_found"),
                3 => (nobody, "internet", "V6", "failed_precondition"),
                5 => (mine, "super", "V4", "invalid_argument"),
                _ => (mine, private.as_str(), "V4", ""),
            })
            .collect();
        let answers: Vec<_> = std::thread::scope(|scope| {
            let ask = |project: &str, network: &str, family: &str| {
                let family = format!("IP_ADDRESS_FAMILY_{family}");
                let request = json!({"project": project, "network": network, "addressFamily": family, "name": "together"});
                world.call(&site.admin, "api.v2.IPService/Create", request)
            };
            let calls: Vec<_> = asked
                .iter()
                .map(|(project, network, family, _)| {
                    scope.spawn(move || ask(project, network, family))
                })
                .collect();
            calls.into_iter().map(|call| call.join().expect("no panic")).collect()
        });
        let (mut taken, mut full) = (BTreeSet::new(), 0);
        for ((_, network, family, wanted), answer) in asked.iter().zip(&answers) {
            if let Ok(answer) = answer {
                assert!(["", "resource_exhausted"].contains(wanted), "{network}: {answer}");
                let ip = &answer["ip"];
                assert!(ip["meta"]["createdAt"].is_string() && ip["name"] == "together", "{ip}");
                assert!(taken.insert(text(&ip["ip"])), "{ip} was given to two");
            } else {
                assert_eq!(code(answer), *wanted, "{network} {family}: {answer:?}");
                full += usize::from(*wanted == "resource_exhausted");
            }
        }
        assert_eq!(full, 6, "of twelve");
        let of = |first: &str| taken.iter().filter(|ip| ip.starts_with(first)).count();
        assert_eq!((of("212.34.83."), of("2001:db8::"), of("10.0.")), (6, 6, 12));
        let list = world.ok(&site.admin, "admin.v2.IPService/List", json!({}));
        let stored: BTreeSet<_> =
            list["ips"].as_array().expect("ips").iter().map(|ip| text(&ip["ip"])).collect();
        assert_eq!(stored, taken);
    });
}
