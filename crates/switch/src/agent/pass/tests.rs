use super::*;
use crate::backend::Place;
use crate::backend::simulated::{Faults, Simulated};
use crate::desired::tests::{nic, switch};
use crate::frr;

const PORTS: [&str; 3] = ["swp1", "swp2", "swp3"];

fn config() -> Config {
    toml::from_str(crate::config::tests::EXAMPLE).unwrap()
}

/// Ports by number with their VRF.
fn desired(generation: u64, vrfs: [Option<&str>; 3]) -> Desired {
    let nics = PORTS.iter().zip(vrfs).map(|(port, vrf)| nic(port, vrf, &["10.1.0.0/24"]));
    Desired::read(&switch(nics.collect()), generation)
}

async fn run(device: &Simulated, desired: &Desired, memory: &mut Memory) -> Passed {
    let passed = pass(device, site(&config(), BTreeSet::new()), Some(desired), memory).await;
    assert_eq!(device.broken(), Vec::<String>::new());
    passed
}

async fn peers(device: &Simulated) -> Vec<String> {
    let running = device.observe().await.unwrap().routing.unwrap();
    running.peers().into_keys().filter(|name| name != "up0").collect()
}

#[tokio::test]
async fn whatever_comes_it_is_reached_in_one_pass() {
    let device = Simulated::new(&PORTS);
    let mut memory = Memory::default();
    let states = [
        [None, None, None],
        [Some("vrf1"), None, Some("default")],
        [Some("vrf2"), Some("vrf2"), None],
        [None, Some("default"), Some("vrf3")],
        [None, None, None],
    ];
    for (generation, state) in states.into_iter().enumerate() {
        let desired = desired(generation as u64, state);
        let first = run(&device, &desired, &mut memory).await;
        assert!(first.changed && first.report.errors.is_empty(), "{state:?}: {:?}", first.report);
        assert!(first.report.closed);
        let second = run(&device, &desired, &mut memory).await;
        assert!(!second.changed, "{state:?}");
        let expected: Vec<_> = PORTS
            .iter()
            .zip(state)
            .filter(|(_, vrf)| vrf.is_some())
            .map(|(port, _)| *port)
            .collect();
        assert_eq!(peers(&device).await, expected);
    }
}

/// The same switch with a VRF per tenant.
fn apart() -> Config {
    Config { backend: crate::config::Backend::Netns, ..config() }
}

async fn run_apart(device: &Simulated, desired: &Desired, memory: &mut Memory) -> Passed {
    let passed = pass(device, site(&apart(), BTreeSet::new()), Some(desired), memory).await;
    assert_eq!(device.broken(), Vec::<String>::new());
    passed
}

#[tokio::test]
async fn with_vrfs_whatever_comes_is_reached_in_one_pass() {
    let device = Simulated::with_vrfs(&PORTS);
    let mut memory = Memory::default();
    let states: [([Option<&str>; 3], &[u32]); 6] = [
        ([None, None, None], &[]),
        ([Some("vrf1"), None, Some("default")], &[1]),
        ([Some("vrf2"), Some("vrf2"), None], &[2]),
        ([None, Some("default"), Some("vrf3")], &[3]),
        ([Some("vrf3"), Some("vrf2"), Some("vrf1")], &[1, 2, 3]),
        ([None, None, None], &[]),
    ];
    for (generation, (state, tenants)) in states.into_iter().enumerate() {
        let desired = desired(generation as u64, state);
        let first = run_apart(&device, &desired, &mut memory).await;
        assert_eq!(first.report.errors, Vec::<String>::new(), "{state:?}");
        assert!(first.changed && first.report.closed, "{state:?}");
        assert!(first.report.ports.values().all(|port| port.up), "{state:?}");
        assert!(!run_apart(&device, &desired, &mut memory).await.changed, "{state:?}");
        let observed = device.observe().await.unwrap();
        assert!(observed.tenants.keys().eq(tenants), "{state:?}: {:?}", observed.tenants);
        for (port, vrf) in PORTS.iter().zip(state) {
            let wanted = match vrf {
                None => Place::Boot,
                Some("default") => Place::Routed(None),
                Some(vrf) => Place::Routed(vrf[3..].parse().ok()),
            };
            assert_eq!(observed.ports[*port].place, wanted, "{state:?}: {port}");
        }
    }
}

#[tokio::test]
async fn one_bad_vrf_stops_no_other() {
    let device = Simulated::with_vrfs(&PORTS);
    let mut memory = Memory::default();
    run_apart(&device, &desired(1, [None, Some("vrf2"), None]), &mut memory).await;
    device.set_faults(Faults { refuse: Some("vrf vrf1 > vni".into()), ..Faults::default() });
    let wish = desired(2, [Some("vrf1"), Some("vrf2"), Some("vrf3")]);
    let passed = run_apart(&device, &wish, &mut memory).await;
    assert_eq!(peers(&device).await, ["swp2", "swp3"]);
    let errors = passed.report.errors;
    assert!(errors.iter().any(|error| error.starts_with("vrf1: refused")), "{errors:?}");
    let running = device.observe().await.unwrap().routing.unwrap();
    assert_eq!(running.vrfs(), ["vrf2".to_owned(), "vrf3".to_owned()].into());

    device.set_faults(Faults::default());
    let passed = run_apart(&device, &Desired { generation: 3, ..wish }, &mut memory).await;
    assert_eq!(passed.report.errors, Vec::<String>::new());
    assert_eq!(peers(&device).await, PORTS);
}

#[tokio::test]
async fn a_refused_tenant_stops_nobody_and_is_tried_again() {
    let device = Simulated::new(&PORTS);
    let mut memory = Memory::default();
    run(&device, &desired(1, [None, Some("vrf2"), None]), &mut memory).await;
    device.set_faults(Faults {
        refuse: Some("neighbor swp1 description".into()),
        ..Faults::default()
    });
    let wish = desired(2, [Some("vrf1"), Some("vrf2"), Some("vrf3")]);
    let passed = run(&device, &wish, &mut memory).await;
    assert_eq!(peers(&device).await, ["swp2", "swp3"]);
    assert!(
        passed.report.errors.iter().any(|error| error.starts_with("port swp1: refused")),
        "{:?}",
        passed.report.errors
    );
    // Nothing half done is left of it.
    let running = device.observe().await.unwrap().routing.unwrap();
    assert!(!running.lines().iter().any(|line| line.is_about("swp1")));

    let calm = run(&device, &wish, &mut memory).await;
    assert!(!calm.changed && !calm.report.errors.is_empty());
    // Whoever is refused entry keeps nobody else from leaving.
    assert!(calm.report.closed);

    // A new wish is tried at once.
    device.set_faults(Faults::default());
    let passed = run(&device, &Desired { generation: 3, ..wish }, &mut memory).await;
    assert_eq!(passed.report.errors, Vec::<String>::new());
    assert_eq!(peers(&device).await, PORTS);
}

#[tokio::test]
async fn what_concerns_everybody_is_taken_back() {
    let device = Simulated::new(&PORTS);
    let mut memory = Memory::default();
    let wish = desired(1, [Some("vrf1"), None, None]);
    run(&device, &wish, &mut memory).await;
    let before = device.observe().await.unwrap().routing.unwrap();
    device.set_faults(Faults { refuse: Some("maximum-prefix 50".into()), ..Faults::default() });
    let mut site = site(&config(), BTreeSet::new());
    site.leaf.maximum_prefix = 50;
    let wish = Desired { generation: 2, ..wish };
    let passed = pass(&device, site, Some(&wish), &mut memory).await;
    assert!(!passed.report.errors.is_empty());
    assert_eq!(device.observe().await.unwrap().routing.unwrap(), before);
}

#[tokio::test]
async fn a_port_that_keeps_its_neighbour_stays_out_of_the_boot_network() {
    let device = Simulated::new(&PORTS);
    let mut memory = Memory::default();
    run(&device, &desired(1, [Some("vrf1"), None, None]), &mut memory).await;
    device.set_faults(Faults { unpeer: true, ..Faults::default() });
    let wish = desired(2, [None, None, None]);
    let passed = run(&device, &wish, &mut memory).await;
    assert_eq!(passed.report.ports["swp1"].place, Place::Routed(None));
    assert!(!passed.report.errors.is_empty() && !passed.report.closed);
    device.set_faults(Faults::default());
    let passed = run(&device, &wish, &mut memory).await;
    assert_eq!(passed.report.ports["swp1"].place, Place::Boot);
    assert_eq!(passed.report.errors, Vec::<String>::new());
}

#[tokio::test]
async fn one_broken_port_stops_no_other() {
    let device = Simulated::new(&PORTS);
    device.set_faults(Faults { port: Some("swp1".into()), ..Faults::default() });
    let passed = pass(
        &device,
        site(&config(), BTreeSet::new()),
        Some(&desired(1, [Some("vrf1"), Some("vrf2"), None])),
        &mut Memory::default(),
    )
    .await;
    assert!(
        passed.report.errors.iter().any(|error| error.contains("swp1")),
        "{:?}",
        passed.report.errors
    );
    assert_eq!(passed.report.ports["swp2"].place, Place::Routed(None));
    assert!(peers(&device).await.contains(&"swp2".to_owned()));
}

#[tokio::test]
async fn drift_is_healed() {
    let device = Simulated::new(&PORTS);
    let mut memory = Memory::default();
    let wish = desired(1, [Some("vrf1"), None, None]);
    run(&device, &wish, &mut memory).await;
    let good = device.observe().await.unwrap();
    device.tamper(|device| {
        device.ports.get_mut("swp2").unwrap().place = Place::Foreign("br-evil".into());
        device.forwards = false;
        device.routing = Ok(frr::Config::default());
    });
    let passed = run(&device, &wish, &mut memory).await;
    assert_eq!(passed.report.errors, Vec::<String>::new());
    assert_eq!(device.observe().await.unwrap(), good);
}

#[tokio::test]
async fn a_peer_that_someone_made_on_a_free_port_goes() {
    let device = Simulated::new(&PORTS);
    let mut memory = Memory::default();
    let wish = desired(1, [None, None, None]);
    run(&device, &wish, &mut memory).await;
    device.tamper(|device| {
        let running = device.routing.clone().unwrap();
        let extra = frr::Config::parse(
            "router bgp 4200000011\n neighbor swp3 interface remote-as external\nexit\n",
        );
        device.routing = Ok(running.lines().iter().chain(extra.lines()).cloned().collect());
    });
    let observed = device.observe().await.unwrap();
    let plan = Plan::make(Some(&wish), &observed, &site(&config(), BTreeSet::new()), |evpn| {
        device.routing(evpn)
    });
    assert_eq!(plan.steps[0], Step::Unpeer(["swp3".to_owned()].into()));
    run(&device, &wish, &mut memory).await;
    assert!(peers(&device).await.is_empty());
}

#[tokio::test]
async fn what_somebody_changed_is_told() {
    let device = Simulated::new(&PORTS);
    let mut memory = Memory::default();
    let wish = desired(1, [Some("vrf1"), None, None]);
    // What is new is no drift, and what is as it should be neither.
    assert_eq!(run(&device, &wish, &mut memory).await.drift, None);
    assert_eq!(run(&device, &wish, &mut memory).await.drift, None);
    let list = "ip prefix-list metal-swp1-in seq 7 permit 10.66.0.0/16";
    device.tamper(|observed| {
        observed.ports.get_mut("swp2").unwrap().place = Place::Routed(None);
        let running = observed.routing.clone().unwrap();
        let more = frr::Config::parse(list);
        observed.routing = Ok(running.lines().iter().chain(more.lines()).cloned().collect());
    });
    let drift = run(&device, &wish, &mut memory).await.drift.unwrap();
    assert_eq!(drift, format!("put swp2 into the boot network; routing - {list}"));
    assert_eq!(run(&device, &wish, &mut memory).await.drift, None);
    // A new wish is nobody's drift, whatever is found on the way.
    let next = desired(2, [Some("vrf1"), Some("vrf2"), None]);
    assert_eq!(run(&device, &next, &mut memory).await.drift, None);
}

#[test]
fn prefixes_that_become_one_narrow_nothing() {
    let peer = "router bgp 1\n neighbor swp1 interface peer-group MACHINE\nexit\n";
    let list = |prefixes: &[&str]| {
        let line = |prefix: &&str| format!("ip prefix-list metal-swp1-in seq 7 permit {prefix}\n");
        frr::Config::parse(&(peer.to_owned() + &prefixes.iter().map(line).collect::<String>()))
    };
    let narrows = |before: &[&str], wanted: &[&str]| {
        let (before, wanted) = (list(before), list(wanted));
        let change = frr::Change::between(&before, &wanted, &[]);
        let routing = crate::backend::Routing { before, wanted, change };
        super::narrows(&Plan { steps: vec![Step::Routing(Box::new(routing))], faults: Vec::new() })
    };
    assert!(!narrows(&["10.0.0.2/32"], &["10.0.0.2/31 le 32"]));
    assert!(!narrows(&["10.0.0.2/32"], &["10.0.0.2/32", "10.0.0.9/32"]));
    assert!(narrows(&["10.0.0.2/31 le 32"], &["10.0.0.2/32"]));
    assert!(narrows(&["10.0.0.2/32"], &["10.0.0.4/31 le 32"]));
}

#[tokio::test]
async fn daemons_that_do_not_answer_are_looked_at_soon() {
    let device = Simulated::new(&PORTS);
    let mut memory = Memory::default();
    let wish = desired(1, [Some("vrf1"), None, None]);
    device.tamper(|observed| observed.routing = Err("away".into()));
    assert!(run(&device, &wish, &mut memory).await.deaf);
    device.tamper(|observed| observed.routing = Ok(frr::Config::default()));
    assert!(!run(&device, &wish, &mut memory).await.deaf);
}
