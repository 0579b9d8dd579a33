//! A large leaf: what one change touches must not depend on how much there is beside it.

use std::collections::BTreeSet;

use netconf::leaf::evpn::Evpn;
use netconf::leaf::{Leaf, Liveness};
use proto::api;
use switch::apply::apply;
use switch::backend::simulated::Simulated;
use switch::backend::{Backend, Step};
use switch::desired::Desired;
use switch::plan::{Plan, Site};

use crate::fake::nic;

/// Ports of the leaf.
const PORTS: usize = 512;
/// Tenants on it.
const VRFS: usize = 200;

fn name(port: usize) -> String {
    format!("swp{port}")
}

/// All ports are in use; `other` is in another tenant's VRF than usual.
fn desired(generation: u64, other: Option<(usize, &str)>) -> Desired {
    let nics = (1..=PORTS).map(|port| {
        let usual = format!("vrf{}", 1 + port % VRFS);
        let vrf = other.filter(|(number, _)| *number == port).map_or(&usual[..], |(_, vrf)| vrf);
        let cidrs = [0, 1, 2].map(|n| format!("10.{n}.{}.{}/32", port / 256, port % 256));
        nic(&name(port), Some(vrf), &[&cidrs[0], &cidrs[1], &cidrs[2], "10.128.0.0/22"])
    });
    let switch = api::Switch { id: "leaf01".into(), nics: nics.collect(), ..Default::default() };
    Desired::read(&switch, generation)
}

fn site() -> Site {
    let leaf = Leaf {
        hostname: "leaf01".into(),
        asn: 4_200_000_011,
        loopback: [10, 0, 0, 11].into(),
        boot: vec!["10.0.1.0/24".parse().unwrap()],
        protected: vec!["10.255.0.0/24".parse().unwrap()],
        uplinks: (0..8).map(|n| format!("up{n}")).collect(),
        ports: Vec::new(),
        maximum_prefix: 100,
        liveness: Liveness::default(),
    };
    let (down, frozen) = (BTreeSet::new(), BTreeSet::new());
    Site { leaf, apart: true, keep: Vec::new(), down, frozen }
}

fn device() -> Simulated {
    let names: Vec<_> = (1..=PORTS).map(name).collect();
    Simulated::with_vrfs(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

async fn plan(device: &Simulated, desired: &Desired) -> Plan {
    let observed = device.observe().await.unwrap();
    Plan::make(Some(desired), &observed, &site(), |evpn: &Evpn| device.routing(evpn))
}

#[tokio::test]
async fn one_change_on_a_full_leaf_touches_one_port() {
    let device = device();
    let all = desired(1, None);
    let outcome = apply(&device, &plan(&device, &all).await.steps, &[]).await;
    assert_eq!(outcome.errors, Vec::<String>::new());
    assert!(plan(&device, &all).await.is_empty());

    // To another tenant that is there, to one that is not, and home; `swp7` is one of three ports of its tenant.
    for (generation, vrf) in [(2, Some("vrf100")), (3, Some("vrf9000")), (4, None), (5, Some(""))] {
        let next = desired(generation, vrf.map(|vrf| (7, vrf)));
        let plan = plan(&device, &next).await;
        assert!(!plan.is_empty());
        for step in &plan.steps {
            match step {
                Step::Unpeer(ports) => assert_eq!(*ports, [name(7)].into()),
                Step::Prepare(vni) | Step::CleanUp(vni) => assert_eq!(*vni, 9000),
                Step::Routing(routing) => {
                    let change = &routing.change;
                    for line in change.close.iter().chain(&change.add).chain(&change.remove) {
                        let about = line.is_about("swp7") || line.to_string().contains("vrf9000");
                        assert!(about, "{vrf:?}: {line}");
                    }
                }
                step => assert_eq!(step.port(), Some("swp7"), "{step}"),
            }
        }
        let outcome = apply(&device, &plan.steps, &[]).await;
        assert_eq!(outcome.errors, Vec::<String>::new());
        assert_eq!(device.broken(), Vec::<String>::new());
    }
}
