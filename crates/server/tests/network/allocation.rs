//! What the allocation of machines takes and gives back inside its own transaction.

use std::collections::BTreeSet;

use model::prefix::Family;
use proto::api;
use serde_json::{Value, json};
use server::ipam::{self, Want};

use crate::site::{Site, id, seen};
use crate::world::{on_all, text};

fn all(site: &Site<'_>) -> Vec<(String, String)> {
    let list = site.world.ok(&site.admin, "admin.v2.IPService/List", json!({}));
    let label = |ip: &Value| ip["meta"]["labels"]["labels"]["machine.metal-stack.io/id"].clone();
    list["ips"]
        .as_array()
        .map(|ips| {
            ips.iter()
                .map(|ip| (text(&ip["ip"]), label(ip).as_str().unwrap_or("-").to_owned()))
                .collect()
        })
        .unwrap_or_default()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn a_machine_takes_addresses_and_leaves_the_static_ones_behind() {
    on_all(|world| {
        let site = Site::new(world);
        let network = id(&site.private(json!({})));
        let fixed = site.ip("internet", json!({"type": "IP_TYPE_STATIC"}));
        let ephemeral = text(&site.ip("internet", json!({}))["ip"]);
        world.runtime.block_on(async {
            let mut tx = world.db.begin_write().await.expect("begin");
            let request = |network, want| ipam::Request {
                project: &site.project,
                network,
                want,
                name: "m1",
                description: "autoassigned",
                machine: Some("m1"),
                ..Default::default()
            };
            for (family, expected) in [(Family::V4, "10.0.0.1"), (Family::V6, "fd00::1")] {
                let request = request(&network, Want::Lowest(family));
                let ip = ipam::acquire(&mut tx, 5, &request).await.expect("an ip");
                assert_eq!(ip.ip, expected);
            }
            for ip in ["212.34.83.1", "212.34.83.2"] {
                ipam::attach(&mut tx, 6, &site.project, "internet", ip, "m1")
                    .await
                    .expect("attach");
            }
            let refused = [
                ipam::attach(&mut tx, 6, &site.project, "internet", "212.34.83.1", "m2").await,
                ipam::attach(&mut tx, 6, &site.other, "internet", "212.34.83.1", "m1").await,
                ipam::attach(&mut tx, 6, &site.project, &network, "212.34.83.1", "m1").await,
                ipam::attach(&mut tx, 6, &site.project, "internet", "212.34.83.5", "m1").await,
            ];
            let codes: Vec<_> =
                refused.iter().map(|r| r.as_ref().expect_err("no").code()).collect();
            use connectrpc::ErrorCode::{InvalidArgument, NotFound};
            assert_eq!(codes, [InvalidArgument, NotFound, NotFound, NotFound]);
            tx.commit().await.expect("commit");
        });
        let m1 = "m1";
        assert_eq!(
            all(&site),
            pairs(&[("10.0.0.1", m1), ("212.34.83.1", m1), ("212.34.83.2", m1), ("fd00::1", m1)])
        );
        world.runtime.block_on(async {
            let mut tx = world.db.begin_write().await.expect("begin");
            let had = ipam::release_machine(&mut tx, "m1", 7).await.expect("release");
            assert_eq!(had.len(), 4);
            tx.commit().await.expect("commit");
        });
        assert_eq!(all(&site), pairs(&[("212.34.83.1", "-")]), "{ephemeral} was ephemeral");
        let request = json!({"ip": fixed["ip"], "project": site.project, "updateMeta": seen(&fixed), "name": "late"});
        world.expect("aborted", &site.user, "api.v2.IPService/Update", request);
        assert_eq!(site.ip(&network, json!({}))["ip"], "10.0.0.1", "free again");
    });
}

#[test]
fn a_rolled_back_allocation_took_nothing() {
    on_all(|world| {
        let site = Site::new(world);
        let before = (all(&site), site.get("internet")["consumption"].clone());
        world.runtime.block_on(async {
            for _ in 0..3 {
                let mut tx = world.db.begin_write().await.expect("begin");
                for want in [
                    Want::Any,
                    Want::Lowest(Family::V6),
                    Want::Exactly("212.34.83.5".parse().expect("ip")),
                ] {
                    let request = ipam::Request {
                        project: &site.project,
                        network: "internet",
                        want,
                        machine: Some("m1"),
                        kind: api::IPType::IP_TYPE_STATIC,
                        ..Default::default()
                    };
                    ipam::acquire(&mut tx, 5, &request).await.expect("an ip");
                }
                assert_eq!(ipam::asn(&mut tx).await.expect("asn"), 4_210_000_001);
                assert_eq!(ipam::vrf(&mut tx).await.expect("vrf"), 1);
                drop(tx);
            }
        });
        assert_eq!((all(&site), site.get("internet")["consumption"].clone()), before);
    });
}

#[test]
fn numbers_are_given_to_one_at_a_time_and_come_back_once() {
    on_all(|world| {
        let numbers = std::thread::scope(|scope| {
            let calls: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let take = async || {
                            let mut tx = world.db.begin_write().await.expect("begin");
                            let asn = ipam::asn(&mut tx).await.expect("asn");
                            tx.commit().await.expect("commit");
                            asn
                        };
                        (0..20).map(|_| world.runtime.block_on(take())).collect::<Vec<_>>()
                    })
                })
                .collect();
            calls.into_iter().flat_map(|call| call.join().expect("calls")).collect::<Vec<_>>()
        });
        let apart: BTreeSet<_> = numbers.iter().copied().collect();
        assert_eq!((apart.len(), numbers.len()), (160, 160));
        world.runtime.block_on(async {
            let mut tx = world.db.begin_write().await.expect("begin");
            let some = numbers[3];
            for _ in 0..2 {
                ipam::release_asn(&mut tx, some).await.expect("release");
            }
            ipam::release_asn(&mut tx, 65_000).await.expect("not ours");
            let mut again = Vec::new();
            for _ in 0..3 {
                again.push(ipam::asn(&mut tx).await.expect("asn"));
            }
            let again: BTreeSet<_> = again.into_iter().collect();
            assert_eq!(again.len(), 3, "not twice");
            let taken: Vec<_> = again.intersection(&apart).collect();
            assert!(taken.is_empty() || taken == [&some], "{taken:?}");
        });
    });
}
