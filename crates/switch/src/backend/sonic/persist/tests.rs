use expect_test::expect;
use proptest::prelude::*;

use super::*;

const FILE: &str = r#"{
    "VERSIONS": {"DATABASE": {"VERSION": "version_4_0_1"}},
    "PORT": {"Ethernet0": {"lanes": "65,66", "alias": "Eth1/1", "mtu": "9100"}, "Ethernet120": {"mtu": "9216"}},
    "VLAN": {"Vlan4000": {"vlanid": "4000", "dhcp_servers": ["10.0.0.1", "10.0.0.2"]}},
    "VLAN_MEMBER": {"Vlan4000|Ethernet0": {"tagging_mode": "untagged"}, "Vlan4000|Ethernet120": {"tagging_mode": "tagged"}},
    "INTERFACE": {"Ethernet120": {"ipv6_use_link_local_only": "enable"}, "Ethernet120|10.9.9.9/31": {}},
    "VRF": {"VrfMpls": {}, "Vrf9": {"vni": "10"}},
    "ACL_TABLE": {"SSH_ONLY": {"type": "CTRLPLANE", "services": ["SSH"]}}
}"#;

fn rules() -> Rules {
    Rules { boot: "Vlan4000".into(), vlans: (1001, 2000), mtu: 9000, underlay_mtu: 9216 }
}

fn with_own<T>(work: impl FnOnce(&Own<'_>) -> T) -> T {
    let rules = rules();
    let is_port = |name: &str| name.starts_with("Ethernet") && name != "Ethernet120";
    work(&Own { rules: &rules, is_port: &is_port })
}

fn row(fields: &[(&str, &str)]) -> Fields {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// CONFIG_DB after a machine was allocated, and after somebody changed something and did not save it.
fn later() -> Rows {
    let mut now = rows(&parse(FILE).unwrap());
    now.remove("VLAN_MEMBER|Vlan4000|Ethernet0");
    now.get_mut("PORT|Ethernet0").unwrap().extend(row(&[("mtu", "9000"), ("speed", "25000")]));
    for (key, fields) in [
        (
            "INTERFACE|Ethernet0",
            row(&[("ipv6_use_link_local_only", "enable"), ("vrf_name", "Vrf7")]),
        ),
        ("INTERFACE|Ethernet120|10.7.7.7/31", row(&[("NULL", "NULL")])),
        ("VRF|Vrf7", row(&[("fallback", "false"), ("vni", "7")])),
        ("VLAN|Vlan1008", row(&[("vlanid", "1008"), ("description", "Vrf7")])),
        ("VLAN|Vlan1500", row(&[("vlanid", "1500")])),
        ("VLAN_INTERFACE|Vlan1008", row(&[("vrf_name", "Vrf7")])),
        ("VLAN_INTERFACE|Vlan1500", row(&[("NULL", "NULL")])),
        ("SUPPRESS_VLAN_NEIGH|Vlan1008", row(&[("suppress", "on")])),
        ("VXLAN_TUNNEL_MAP|vtep|map_7_Vlan1008", row(&[("vlan", "Vlan1008"), ("vni", "7")])),
    ] {
        now.insert(key.into(), fields);
    }
    now
}

#[test]
fn what_is_written_is_in_the_file_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config_db.json");
    fs::write(&path, FILE).unwrap();
    let told = with_own(|own| save(&path, &later(), own)).unwrap();
    expect![[r#"
        VLAN_MEMBER|Vlan4000|Ethernet0 is in the file only
        INTERFACE|Ethernet0 is not in the file
        PORT|Ethernet0 is different in the file
        SUPPRESS_VLAN_NEIGH|Vlan1008 is not in the file
        VLAN_INTERFACE|Vlan1008 is not in the file
        VLAN|Vlan1008 is not in the file
        VRF|Vrf7 is not in the file
        VXLAN_TUNNEL_MAP|vtep|map_7_Vlan1008 is not in the file"#]]
    .assert_eq(&told.join("\n"));
    expect![[r#"
        {
            "VERSIONS": {
                "DATABASE": {
                    "VERSION": "version_4_0_1"
                }
            },
            "PORT": {
                "Ethernet0": {
                    "lanes": "65,66",
                    "alias": "Eth1/1",
                    "mtu": "9000"
                },
                "Ethernet120": {
                    "mtu": "9216"
                }
            },
            "VLAN": {
                "Vlan4000": {
                    "vlanid": "4000",
                    "dhcp_servers": [
                        "10.0.0.1",
                        "10.0.0.2"
                    ]
                },
                "Vlan1008": {
                    "description": "Vrf7",
                    "vlanid": "1008"
                }
            },
            "VLAN_MEMBER": {
                "Vlan4000|Ethernet120": {
                    "tagging_mode": "tagged"
                }
            },
            "INTERFACE": {
                "Ethernet120": {
                    "ipv6_use_link_local_only": "enable"
                },
                "Ethernet120|10.9.9.9/31": {},
                "Ethernet0": {
                    "ipv6_use_link_local_only": "enable",
                    "vrf_name": "Vrf7"
                }
            },
            "VRF": {
                "VrfMpls": {},
                "Vrf9": {
                    "vni": "10"
                },
                "Vrf7": {
                    "fallback": "false",
                    "vni": "7"
                }
            },
            "ACL_TABLE": {
                "SSH_ONLY": {
                    "type": "CTRLPLANE",
                    "services": [
                        "SSH"
                    ]
                }
            },
            "SUPPRESS_VLAN_NEIGH": {
                "Vlan1008": {
                    "suppress": "on"
                }
            },
            "VLAN_INTERFACE": {
                "Vlan1008": {
                    "vrf_name": "Vrf7"
                }
            },
            "VXLAN_TUNNEL_MAP": {
                "vtep|map_7_Vlan1008": {
                    "vlan": "Vlan1008",
                    "vni": "7"
                }
            }
        }
    "#]]
    .assert_eq(&fs::read_to_string(&path).unwrap());
    // Once more is nothing, and back again is what was there.
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let before = inode(&path);
    assert!(with_own(|own| save(&path, &later(), own)).unwrap().is_empty());
    assert_eq!(inode(&path), before);
    let start = rows(&parse(FILE).unwrap());
    assert_eq!(with_own(|own| save(&path, &start, own)).unwrap().len(), told.len());
    assert_eq!(rows(&parse(&fs::read_to_string(&path).unwrap()).unwrap()), start);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "something is left over");
}

#[test]
fn a_file_that_is_none_is_said_so_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config_db.json");
    let error =
        |path: &Path| format!("{:#}", with_own(|own| save(path, &later(), own)).unwrap_err());
    assert!(error(&path).contains("cannot be read"));
    fs::write(&path, "[]").unwrap();
    assert!(error(&path).contains("cannot be used: it is no object with tables"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "[]");
}

#[test]
fn the_file_keeps_its_rights() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config_db.json");
    fs::write(&path, FILE).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    with_own(|own| save(&path, &later(), own)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
}

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        any::<i64>().prop_map(|number| Json::Number(number.into())),
        ".{0,8}".prop_map(Json::Text),
    ];
    leaf.prop_recursive(3, 40, 6, |inner| {
        let member = ("[A-Za-z0-9_|@:/.]{0,10}", inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Json::List),
            prop::collection::vec(member, 0..6).prop_map(|members| Json::Object(object(members))),
        ]
    })
}

fn object(members: Vec<(String, Json)>) -> Object {
    let mut object = Object::default();
    for (name, value) in members {
        object.set(&name, value);
    }
    object
}

proptest! {
    /// Whatever else is in the file comes out as it went in, in its order.
    #[test]
    fn unknown_content_survives(
        others in prop::collection::vec(("[A-Z_]{1,12}", json()), 0..6),
        at in 0..6_usize,
    ) {
        let Json::Object(known) = serde_json::from_str(FILE).unwrap() else { panic!() };
        let known: Vec<_> = known.iter().map(|(name, value)| (name.to_owned(), value.clone())).collect();
        let others: Vec<_> = others.into_iter().filter(|(name, _)| !known.iter().any(|(k, _)| k == name)
            && !["SUPPRESS_VLAN_NEIGH", "VLAN_INTERFACE", "VXLAN_TUNNEL_MAP"].contains(&name.as_str())).collect();
        let at = at.min(known.len());
        let all = [&known[..at], &others[..], &known[at..]].concat();
        let file = object(all);
        let again = parse(&render(&file).unwrap()).unwrap();
        prop_assert_eq!(&again, &file);

        let mut merged = again;
        let (before, now) = with_own(|own| (own.rows(&rows(&file), &later()), own.rows(&later(), &rows(&file))));
        merge(&mut merged, &before, &now);
        let order = |file: &Object| -> Vec<String> {
            file.iter().map(|(name, _)| name.to_owned()).filter(|name| others.iter().any(|(o, _)| o == name)).collect()
        };
        prop_assert_eq!(order(&merged), order(&file));
        for (name, _) in &others {
            prop_assert_eq!(merged.get(name), file.get(name));
        }
        // And this agent's rows are those of CONFIG_DB.
        prop_assert_eq!(with_own(|own| own.rows(&rows(&merged), &later())), now);
    }

    #[test]
    fn anything_is_read_or_refused(text in ".{0,200}") {
        if let Ok(file) = parse(&text) {
            rows(&file);
        }
    }
}
