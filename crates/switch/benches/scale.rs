//! A leaf with 512 ports in 200 VRFs: how long a plan and the whole text take, and how much one change is.
//!
//! `cargo bench -p switch --bench scale`; docs/performance.md tells how to read it.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::{Duration, Instant};

use netconf::leaf::evpn::Evpn;
use netconf::leaf::{Leaf, Liveness};
use proto::api;
use switch::apply::apply;
use switch::backend::simulated::Simulated;
use switch::backend::{Backend, Observed, Step};
use switch::desired::Desired;
use switch::frr::Config;
use switch::plan::{Plan, Site};

const PORTS: usize = 512;
const VRFS: usize = 200;
const ROUNDS: usize = 40;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(measure());
}

async fn measure() {
    let names: Vec<_> = (1..=PORTS).map(|port| format!("swp{port}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let device = Simulated::with_vrfs(&names);
    let (site, all) = (site(), desired(1, None));
    let empty = device.observe().await.expect("observed");
    let plan = |observed: &Observed, desired: &Desired| {
        Plan::make(Some(desired), observed, &site, |evpn: &Evpn| device.routing(evpn))
    };
    times("plan of everything on an empty leaf", || plan(&empty, &all));
    let outcome = apply(&device, &plan(&empty, &all).steps, &[]).await;
    assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
    let full = device.observe().await.expect("observed");
    times("plan when nothing is to be done", || plan(&full, &all));
    let moved = desired(2, Some((7, "vrf100")));
    times("plan when one port moves", || plan(&full, &moved));
    let change = plan(&full, &moved);
    for step in &change.steps {
        println!("  {step}");
    }

    let wanted = change.steps.iter().find_map(|step| match step {
        Step::Routing(routing) => Some(routing.wanted.clone()),
        _ => None,
    });
    println!("lines of the configuration: {}", wanted.expect("routing changes").lines().len());
    // The plan asks for the text once: what it is made from is remembered here.
    let captured = std::cell::RefCell::new(None);
    Plan::make(Some(&all), &full, &site, |evpn: &Evpn| {
        captured.replace(Some(evpn.clone()));
        String::new()
    });
    let evpn = captured.into_inner().expect("asked for");
    times("the whole text", || device.routing(&evpn));
    let text = device.routing(&evpn);
    println!("text: {} KiB", text.len() >> 10);
    times("reading it", || Config::parse(&text));
}

fn times<T>(what: &str, mut work: impl FnMut() -> T) {
    let busy = processor();
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begin = Instant::now();
            black_box(work());
            begin.elapsed()
        })
        .collect();
    let busy = (processor() - busy).as_secs_f64() * 1e3 / ROUNDS as f64;
    times.sort();
    let at = |percent: usize| {
        times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1e3
    };
    println!("{what}: processor {busy:.2} ms, p50 {:.2} ms, p99 {:.2} ms", at(50), at(99));
}

/// What this thread has used of the processor: the time that counts on a machine that others use, too.
fn processor() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanos = text.split(' ').next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanos.expect("a number"))
}

fn desired(generation: u64, other: Option<(usize, &str)>) -> Desired {
    let nic = |port: usize| {
        let usual = format!("vrf{}", 1 + port % VRFS);
        let vrf = other.filter(|(number, _)| *number == port).map_or(&usual[..], |(_, vrf)| vrf);
        let mut cidrs: Vec<_> =
            (0..3).map(|n| format!("10.{n}.{}.{}/32", port / 256, port % 256)).collect();
        cidrs.push("10.128.0.0/22".to_owned());
        api::SwitchNic {
            name: format!("swp{port}"),
            identifier: format!("swp{port}"),
            vrf: Some(vrf.to_owned()),
            bgp_filter: api::BGPFilter { cidrs, ..Default::default() }.into(),
            ..Default::default()
        }
    };
    let nics = (1..=PORTS).map(nic).collect();
    Desired::read(&api::Switch { id: "leaf01".into(), nics, ..Default::default() }, generation)
}

fn site() -> Site {
    let leaf = Leaf {
        hostname: "leaf01".into(),
        asn: 4_200_000_011,
        loopback: [10, 0, 0, 11].into(),
        boot: vec!["10.0.1.0/24".parse().expect("a prefix")],
        protected: vec!["10.255.0.0/24".parse().expect("a prefix")],
        uplinks: (0..8).map(|n| format!("up{n}")).collect(),
        ports: Vec::new(),
        maximum_prefix: 100,
        liveness: Liveness::default(),
    };
    let (down, frozen) = (BTreeSet::new(), BTreeSet::new());
    Site { leaf, apart: true, keep: Vec::new(), down, frozen }
}
