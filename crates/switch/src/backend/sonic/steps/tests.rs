use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::backend::sonic::persist::{parse, rows};
use crate::backend::sonic::schema::Fields;

fn rules() -> Rules {
    Rules { boot: "Vlan4000".into(), vlans: (1001, 2000), mtu: 9000, underlay_mtu: 9216 }
}

/// A switch as it comes from its installation, with `more` rows.
fn switch(more: &str) -> Snapshot {
    let base = r#"{
        "PORT": {"Ethernet0": {"alias": "Eth1/1", "admin_status": "up", "mtu": "9100"}, "Ethernet4": {"admin_status": "up"}},
        "VLAN": {"Vlan4000": {"vlanid": "4000"}},
        "VLAN_INTERFACE": {"Vlan4000": {}, "Vlan4000|10.0.1.1/24": {}},
        "VXLAN_TUNNEL": {"vtep": {"src_ip": "10.0.0.11"}}
    }"#;
    let mut config = rows(&parse(base).unwrap());
    config.extend(rows(&parse(more).unwrap()));
    managed(config)
}

/// What managers make of it that are never late.
fn managed(config: Rows) -> Snapshot {
    let ok = |name: &str, value: &str| Fields::from([(name.to_owned(), value.to_owned())]);
    let mut state = Rows::new();
    for (of, to) in [("VLAN", "VLAN_TABLE"), ("VRF", "VRF_TABLE"), ("VRF", "VRF_OBJECT_TABLE")] {
        state.extend(table(&config, of).map(|(name, _)| (key(to, name), ok("state", "ok"))));
    }
    let members = table(&config, "VLAN_MEMBER");
    state.extend(members.map(|(name, _)| (key("VLAN_MEMBER_TABLE", name), ok("state", "ok"))));
    for of in ["INTERFACE", "VLAN_INTERFACE"] {
        let rows = table(&config, of).filter(|(name, _)| !name.contains('|'));
        state.extend(rows.map(|(name, fields)| {
            let vrf = fields.get("vrf_name").map_or("", String::as_str);
            (key("INTERFACE_TABLE", name), ok("vrf", vrf))
        }));
    }
    let ports = table(&config, "PORT").map(|(name, fields)| (name.to_owned(), fields.clone()));
    let ports = ports.collect();
    Snapshot { config, state, ports }
}

fn write(config: &mut Rows, writes: &[Write]) {
    for write in writes {
        match write {
            Write::Set(key, fields) => {
                config.entry(key.clone()).or_default().extend(fields.iter().cloned());
            }
            Write::Unset(key, field) => {
                if let Some(row) = config.get_mut(key) {
                    row.remove(field);
                }
            }
            Write::Remove(key) => drop(config.remove(key)),
        }
    }
}

/// Does a step to its end and tells what was waited for and written.
fn play(step: &Step, now: &mut Snapshot) -> Result<String> {
    let mut text = String::new();
    for _ in 0..10 {
        let keys = keys(step, now, &rules());
        let next = next(step, now, &rules())?;
        for condition in &next.wait {
            text += &format!("  until not: {condition}\n");
            assert!(condition.seen(now), "{condition}");
        }
        if next.writes.is_empty() {
            return Ok(text);
        }
        text += "MULTI\n";
        for write in &next.writes {
            text += &format!("{write}\n");
            let (Write::Set(row, _) | Write::Unset(row, _) | Write::Remove(row)) = write;
            assert!(keys.contains(row) || row.contains("_MAP|"), "{row} is written unwatched");
        }
        text += "EXEC\n";
        write(&mut now.config, &next.writes);
        *now = managed(std::mem::take(&mut now.config));
    }
    bail!("it does not end:\n{text}")
}

fn check(step: Step, now: &mut Snapshot, expect: Expect) {
    let said = match play(&step, now) {
        Ok(text) => text,
        Err(error) => format!("{error:#}\n"),
    };
    expect.assert_eq(&format!("{step}\n{said}"));
}

fn port() -> String {
    "Ethernet0".into()
}

#[test]
fn a_machine_is_allocated_and_given_back() {
    let mut now = switch("{}");
    check(
        Step::Boot(port()),
        &mut now,
        expect![[r#"
        put Ethernet0 into the boot network
          until not: STATE_DB still has INTERFACE_TABLE|Ethernet0
          until not: the ASIC still routes over Ethernet0
        MULTI
        HSET VLAN_MEMBER|Vlan4000|Ethernet0 tagging_mode untagged
        HSET PORT|Ethernet0 mtu 9000
        EXEC
          until not: STATE_DB still has INTERFACE_TABLE|Ethernet0
          until not: STATE_DB has no VLAN_MEMBER_TABLE|Vlan4000|Ethernet0 with state "ok"
    "#]],
    );
    assert_eq!(place("Ethernet0", &now, &rules()), Place::Boot);
    check(
        Step::Prepare(7),
        &mut now,
        expect![[r#"
        make vrf7
          until not: STATE_DB still has VRF_TABLE|Vrf7
          until not: STATE_DB still has VRF_OBJECT_TABLE|Vrf7
          until not: STATE_DB still has VLAN_TABLE|Vlan1008
          until not: STATE_DB still has INTERFACE_TABLE|Vlan1008
        MULTI
        HSET VRF|Vrf7 fallback false vni 7
        HSET VLAN|Vlan1008 vlanid 1008 description Vrf7
        HSET SUPPRESS_VLAN_NEIGH|Vlan1008 suppress on
        HSET VLAN_INTERFACE|Vlan1008 vrf_name Vrf7
        HSET VXLAN_TUNNEL_MAP|vtep|map_7_Vlan1008 vlan Vlan1008 vni 7
        EXEC
          until not: STATE_DB has no VRF_TABLE|Vrf7 with state "ok"
          until not: STATE_DB has no VLAN_TABLE|Vlan1008 with state "ok"
          until not: STATE_DB has no INTERFACE_TABLE|Vlan1008 with vrf "Vrf7"
    "#]],
    );
    assert_eq!(tenants(&now, &rules()), [(7, true)].into());
    check(
        Step::Route(port(), Some(7)),
        &mut now,
        expect![[r#"
        put Ethernet0 into vrf7
        MULTI
        DEL VLAN_MEMBER|Vlan4000|Ethernet0
        EXEC
          until not: the ASIC still bridges over Ethernet0
          until not: STATE_DB still has INTERFACE_TABLE|Ethernet0
          until not: the ASIC still routes over Ethernet0
          until not: STATE_DB has no VRF_TABLE|Vrf7 with state "ok"
        MULTI
        HSET INTERFACE|Ethernet0 ipv6_use_link_local_only enable vrf_name Vrf7
        EXEC
          until not: STATE_DB has no INTERFACE_TABLE|Ethernet0 with vrf "Vrf7"
    "#]],
    );
    assert_eq!(place("Ethernet0", &now, &rules()), Place::Routed(Some(7)));
    check(
        Step::CleanUp(7),
        &mut now,
        expect![[r#"
        remove vrf7
        Ethernet0 is still in it
    "#]],
    );
    check(
        Step::Leave(port()),
        &mut now,
        expect![[r#"
        take Ethernet0 out of its VRF
        MULTI
        HSET PORT|Ethernet0 admin_status down
        DEL INTERFACE|Ethernet0
        EXEC
          until not: the ASIC still bridges over Ethernet0
          until not: STATE_DB still has INTERFACE_TABLE|Ethernet0
          until not: the ASIC still routes over Ethernet0
        MULTI
        HSET INTERFACE|Ethernet0 ipv6_use_link_local_only enable
        HSET PORT|Ethernet0 mtu 9216
        EXEC
          until not: STATE_DB has no INTERFACE_TABLE|Ethernet0 with vrf ""
    "#]],
    );
    assert_eq!(place("Ethernet0", &now, &rules()), Place::Routed(None));
    check(
        Step::Admin(port(), true),
        &mut now,
        expect![[r#"
        set Ethernet0 up
        MULTI
        HSET PORT|Ethernet0 admin_status up
        EXEC
          until not: APPL_DB does not say that Ethernet0 is up
    "#]],
    );
    check(
        Step::Boot(port()),
        &mut now,
        expect![[r#"
        put Ethernet0 into the boot network
        MULTI
        DEL INTERFACE|Ethernet0
        EXEC
          until not: STATE_DB still has INTERFACE_TABLE|Ethernet0
          until not: the ASIC still routes over Ethernet0
        MULTI
        HSET VLAN_MEMBER|Vlan4000|Ethernet0 tagging_mode untagged
        HSET PORT|Ethernet0 mtu 9000
        EXEC
          until not: STATE_DB still has INTERFACE_TABLE|Ethernet0
          until not: STATE_DB has no VLAN_MEMBER_TABLE|Vlan4000|Ethernet0 with state "ok"
    "#]],
    );
    check(
        Step::CleanUp(7),
        &mut now,
        expect![[r#"
        remove vrf7
        MULTI
        DEL VXLAN_TUNNEL_MAP|vtep|map_7_Vlan1008
        DEL VLAN_INTERFACE|Vlan1008
        EXEC
          until not: STATE_DB still has INTERFACE_TABLE|Vlan1008
          until not: the ASIC still routes over Vlan1008
        MULTI
        DEL SUPPRESS_VLAN_NEIGH|Vlan1008
        DEL VLAN|Vlan1008
        EXEC
        MULTI
        DEL VRF|Vrf7
        EXEC
          until not: STATE_DB still has VRF_TABLE|Vrf7
          until not: STATE_DB still has VRF_OBJECT_TABLE|Vrf7
    "#]],
    );
    assert_eq!(tenants(&now, &rules()), [].into());
    let start = switch("{}");
    let left: Vec<_> = now.config.keys().filter(|k| !start.config.contains_key(*k)).collect();
    assert_eq!(left, ["VLAN_MEMBER|Vlan4000|Ethernet0"]);
}

#[test]
fn what_the_factory_left_on_a_port_goes() {
    let mut now = switch(
        r#"{"INTERFACE": {"Ethernet0": {}, "Ethernet0|10.0.0.0/31": {}}, "VLAN_MEMBER": {"Vlan77|Ethernet0": {"tagging_mode": "tagged"}}}"#,
    );
    let Place::Foreign(place) = place("Ethernet0", &now, &rules()) else { panic!() };
    expect!["VLAN_MEMBER|Vlan77|Ethernet0, INTERFACE|Ethernet0|10.0.0.0/31, INTERFACE|Ethernet0"]
        .assert_eq(&place);
    check(
        Step::Boot(port()),
        &mut now,
        expect![[r#"
        put Ethernet0 into the boot network
        MULTI
        DEL INTERFACE|Ethernet0|10.0.0.0/31
        DEL INTERFACE|Ethernet0
        EXEC
        MULTI
        DEL VLAN_MEMBER|Vlan77|Ethernet0
        EXEC
          until not: STATE_DB still has INTERFACE_TABLE|Ethernet0
          until not: the ASIC still routes over Ethernet0
        MULTI
        HSET VLAN_MEMBER|Vlan4000|Ethernet0 tagging_mode untagged
        HSET PORT|Ethernet0 mtu 9000
        EXEC
          until not: STATE_DB still has INTERFACE_TABLE|Ethernet0
          until not: STATE_DB has no VLAN_MEMBER_TABLE|Vlan4000|Ethernet0 with state "ok"
    "#]],
    );
}

#[test]
fn what_cannot_be_done_says_why_and_writes_nothing() {
    let mut now =
        switch(r#"{"VXLAN_TUNNEL_MAP": {"vtep|map_9_Vlan77": {"vlan": "Vlan77", "vni": "9"}}}"#);
    let before = now.clone();
    for (step, why) in [
        (Step::Boot("Ethernet99".into()), "Ethernet99 is not there"),
        (Step::Route(port(), Some(7)), "Vrf7 is not there"),
        (Step::Prepare(9), "VXLAN_TUNNEL_MAP|vtep|map_9_Vlan77 has the VNI already"),
        (Step::Forward, "is not about rows"),
    ] {
        let error = play(&step, &mut now).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    now.config.remove("VXLAN_TUNNEL|vtep");
    assert!(play(&Step::Prepare(7), &mut now).unwrap_err().to_string().contains("no tunnel end"));
    now.config.remove("VLAN|Vlan4000");
    assert!(play(&Step::Boot(port()), &mut now).unwrap_err().to_string().contains("Vlan4000"));
    now.config.extend(before.config.clone());
    assert_eq!(now, before);
}

/// Rows alone are no network: the managers have to follow.
#[test]
fn a_port_is_where_the_managers_have_put_it() {
    let mut now = switch("{}");
    play(&Step::Boot(port()), &mut now).unwrap();
    let done = now.clone();
    now.state.remove("VLAN_MEMBER_TABLE|Vlan4000|Ethernet0");
    assert_eq!(
        place("Ethernet0", &now, &rules()),
        Place::Foreign("VLAN_MEMBER|Vlan4000|Ethernet0".into())
    );
    let next = next(&Step::Boot(port()), &now, &rules()).unwrap();
    assert!(next.writes.is_empty() && !next.is_done(&now));
    now = done;
    now.state.insert("INTERFACE_TABLE|Ethernet0".into(), [("vrf".into(), "Vrf7".into())].into());
    assert!(matches!(place("Ethernet0", &now, &rules()), Place::Foreign(_)));
}

#[test]
fn two_tenants_never_share_a_vlan_and_one_that_comes_again_gets_its_own() {
    let mut now = switch(r#"{"VLAN": {"Vlan1008": {"vlanid": "1008"}}}"#);
    for vni in [7, 1007, 2007] {
        play(&Step::Prepare(vni), &mut now).unwrap();
    }
    let vlan = |now: &Snapshot, vni| vlan_of(vni, now, &rules()).unwrap();
    let first = [7, 1007, 2007].map(|vni| vlan(&now, vni));
    assert_eq!(first, ["Vlan1009", "Vlan1010", "Vlan1011"]);
    play(&Step::CleanUp(1007), &mut now).unwrap();
    play(&Step::Prepare(1007), &mut now).unwrap();
    assert_eq!(vlan(&now, 1007), "Vlan1010");
    // Somebody else's VLAN is as it was.
    assert_eq!(now.config["VLAN|Vlan1008"].len(), 1);
}

#[test]
fn vlans_run_out() {
    let rules = Rules { vlans: (1001, 1002), ..rules() };
    let mut now = switch("{}");
    for vni in [1, 2] {
        let next = prepare(vni, &now, &rules).unwrap();
        write(&mut now.config, &next.writes);
    }
    assert!(prepare(3, &now, &rules).unwrap_err().to_string().contains("are taken"));
}

/// A removal that broke off anywhere goes on there.
#[test]
fn a_removal_that_broke_off_is_found_again() {
    let mut now = switch("{}");
    play(&Step::Prepare(7), &mut now).unwrap();
    let mut rounds = 0;
    while !tenants(&now, &rules()).is_empty() {
        let next = next(&Step::CleanUp(7), &now, &rules()).unwrap();
        write(&mut now.config, &next.writes);
        now = managed(now.config);
        rounds += 1;
        assert!(rounds < 6);
    }
    assert_eq!(now.config, switch("{}").config);
}

proptest! {
    #[test]
    fn any_port_gets_anywhere_and_nobody_else_is_touched(
        member in prop::option::of(prop::sample::select(vec!["Vlan77", "Vlan4000"])),
        tagged: bool,
        vrf in prop::option::of(prop::sample::select(vec!["Vrf7", "VrfMpls", ""])),
        address: bool,
        goals in prop::collection::vec(0..4_u8, 1..6),
    ) {
        let mut now = switch(r#"{"VRF": {"Vrf8": {"vni": "8", "fallback": "false"}, "VrfMpls": {}}, "INTERFACE": {"Ethernet4": {"vrf_name": "VrfMpls"}}}"#);
        play(&Step::Prepare(7), &mut now).unwrap();
        let others = |now: &Snapshot| {
            let mut rows = now.config.clone();
            rows.retain(|row, _| !row.contains("Ethernet0"));
            rows
        };
        let before = others(&now);
        if let Some(vlan) = member {
            let mode = if tagged { "tagged" } else { "untagged" };
            let row = [("tagging_mode".to_owned(), mode.to_owned())].into();
            now.config.insert(format!("VLAN_MEMBER|{vlan}|Ethernet0"), row);
        }
        if let Some(vrf) = vrf {
            now.config.insert("INTERFACE|Ethernet0".into(), [("vrf_name".into(), vrf.into())].into());
        }
        if address {
            now.config.insert("INTERFACE|Ethernet0|10.0.0.0/31".into(), [("NULL".into(), "NULL".into())].into());
        }
        now = managed(now.config);
        for goal in goals {
            let (step, is) = match goal {
                0 => (Step::Boot(port()), Place::Boot),
                1 => (Step::Route(port(), None), Place::Routed(None)),
                2 => (Step::Route(port(), Some(7)), Place::Routed(Some(7))),
                _ => (Step::Route(port(), Some(8)), Place::Routed(Some(8))),
            };
            play(&step, &mut now).unwrap();
            prop_assert_eq!(place("Ethernet0", &now, &rules()), is);
            // Done already writes nothing.
            prop_assert!(next(&step, &now, &rules()).unwrap().is_done(&now));
        }
        prop_assert_eq!(others(&now), before);
    }
}
