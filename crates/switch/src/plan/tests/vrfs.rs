//! Plans for a device on which tenants have a VRF each.

use super::*;

type Wish<'a> = (&'a str, Option<&'a str>, &'a [&'a str]);

fn apart() -> Site {
    Site { apart: true, ..site() }
}

fn plan(desired: &Desired, observed: &Observed) -> Plan {
    Plan::make(Some(desired), observed, &apart(), netconf::leaf::evpn::frr)
}

/// A device on which `desired` was applied.
fn reached(state: &Desired) -> Observed {
    let mut observed = super::reached(&Desired::default());
    for (name, wish) in &state.ports {
        let place = match wish.place {
            Place::Tenant(vni) => Where::Routed(Some(vni)),
            Place::Fabric => Where::Routed(None),
            _ => Where::Boot,
        };
        observed.ports.insert(name.clone(), port(place));
    }
    for step in plan(state, &observed).steps {
        match step {
            Step::Prepare(vni) => drop(observed.tenants.insert(vni, true)),
            Step::Routing(routing) => observed.routing = Ok(routing.wanted),
            _ => {}
        }
    }
    assert_eq!(plan(state, &observed), Plan::default());
    observed
}

/// Steps without the lines of the routing configuration.
fn check(from: &[Wish], to: &[Wish], expect: Expect) {
    let plan = plan(&desired(to), &self::reached(&desired(from)));
    let steps: Vec<_> = plan.steps.iter().map(ToString::to_string).collect();
    expect.assert_eq(&steps.join("\n"));
}

const ONE: &[&str] = &["10.1.0.1/32"];

#[test]
fn the_first_and_the_last_machine_of_a_tenant() {
    let (free, used): ([Wish; 1], [Wish; 1]) =
        ([("swp1", None, &[])], [("swp1", Some("vrf7"), ONE)]);
    check(
        &free,
        &used,
        expect![[r#"
            make vrf7
            put swp1 into vrf7
            change the routing configuration: 37 lines come, 0 go"#]],
    );
    check(
        &used,
        &free,
        expect![[r#"
            remove the BGP neighbour at swp1
            put swp1 into the boot network
            change the routing configuration: 0 lines come, 9 go
            remove vrf7"#]],
    );
}

#[test]
fn one_of_two_machines_leaves_and_the_vrf_stays() {
    check(
        &[("swp1", Some("vrf7"), ONE), ("swp2", Some("vrf7"), ONE)],
        &[("swp1", None, &[]), ("swp2", Some("vrf7"), ONE)],
        expect![[r#"
            remove the BGP neighbour at swp1
            put swp1 into the boot network
            change the routing configuration: 0 lines come, 7 go"#]],
    );
}

#[test]
fn from_one_tenant_to_another_by_way_of_none() {
    check(
        &[("swp1", Some("vrf7"), ONE)],
        &[("swp1", Some("vrf8"), ONE)],
        expect![[r#"
            remove the BGP neighbour at swp1
            take swp1 out of its VRF
            make vrf8
            put swp1 into vrf8
            set swp1 up
            change the routing configuration: 26 lines come, 2 go
            remove vrf7"#]],
    );
}

#[test]
fn a_port_in_a_foreign_vrf_is_not_confirmed() {
    let wish = desired(&[("swp1", Some("vrf7"), ONE)]);
    let mut observed = self::reached(&wish);
    observed.ports.insert("swp1".into(), port(Where::Routed(Some(8))));
    observed.tenants.insert(8, true);
    let plan = plan(&wish, &observed);
    assert!(!plan.closes_nothing(), "{plan}");
    assert!(plan.steps.contains(&Step::CleanUp(8)), "{plan}");
}

#[test]
fn what_is_missing_of_a_vrf_is_made_and_nothing_else() {
    let wish = desired(&[("swp1", Some("vrf7"), ONE)]);
    let mut observed = self::reached(&wish);
    observed.tenants.insert(7, false);
    assert_eq!(plan(&wish, &observed).steps, [Step::Prepare(7)]);
}

#[test]
fn a_vrf_with_somebody_in_it_stays() {
    let wish = desired(&[("swp1", Some("vrf7"), ONE)]);
    let observed = self::reached(&wish);
    // What the control plane says cannot be understood, or it says nothing.
    let unclear = desired(&[("swp1", Some("VrfMpls"), ONE)]);
    assert_eq!(plan(&unclear, &observed).steps, []);
    let unknown = Plan::make(None, &observed, &apart(), netconf::leaf::evpn::frr);
    assert_eq!(unknown, Plan::default());
    // As long as nobody knows what runs, nothing is removed.
    let deaf = Observed { routing: Err("bgpd is gone".into()), ..observed };
    let plan = plan(&desired(&[("swp1", None, &[])]), &deaf);
    assert_eq!(plan.steps, []);
}

#[test]
fn a_firewall_is_part_of_the_underlay() {
    check(
        &[("swp1", None, &[]), ("swp2", Some("vrf7"), ONE)],
        &[("swp1", Some("default"), ONE), ("swp2", Some("vrf7"), ONE)],
        expect![[r#"
            take swp1 out of the boot network
            change the routing configuration: 18 lines come, 0 go"#]],
    );
}

#[test]
fn in_a_big_fabric_nothing_else_is_touched() {
    let nics = (0..512)
        .map(|n| nic(&format!("swp{n}"), Some(&format!("vrf{}", n % 200 + 1)), &["10.1.0.0/24"]));
    let mut wish = Desired::read(&switch(nics.collect()), 1);
    let observed = self::reached(&wish);
    wish.ports.get_mut("swp7").unwrap().place = Place::Boot;
    let plan = plan(&wish, &observed);
    let Some(Step::Routing(routing)) = plan.steps.last() else { panic!("{plan}") };
    assert!(
        routing.change.close.iter().chain(&routing.change.remove).all(|line| line.is_about("swp7"))
    );
}
