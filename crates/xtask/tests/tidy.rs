//! The shape of the workspace, as a test.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Which crate may use which of ours. A new edge is a reviewed line.
const EDGES: &[(&str, &[&str])] = &[
    ("boot", &["client", "daemon", "proto"]),
    ("cli", &["client", "proto"]),
    ("client", &["proto"]),
    ("daemon", &[]),
    ("firewall", &["client", "daemon", "netconf", "proto"]),
    ("guest", &[]),
    ("installer", &["client", "lldp", "netconf", "proto"]),
    ("lab", &["client", "daemon", "guest", "proto"]),
    ("lldp", &[]),
    ("model", &[]),
    ("netconf", &[]),
    ("proto", &[]),
    ("server", &["daemon", "model", "proto", "store"]),
    ("store", &["model"]),
    ("switch", &["client", "daemon", "lldp", "netconf", "proto"]),
    ("xtask", &[]),
];

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates folder").to_owned()
}

#[test]
fn dependencies_point_one_way() {
    let ours: BTreeSet<_> = EDGES.iter().map(|(name, _)| *name).collect();
    let mut seen = BTreeSet::new();
    for entry in std::fs::read_dir(crates()).expect("crates folder") {
        let folder = entry.expect("entry").path();
        let name = folder.file_name().expect("name").to_string_lossy().into_owned();
        let (known, allowed) =
            EDGES.iter().find(|(known, _)| *known == name).expect("a crate without a row in EDGES");
        seen.insert(*known);
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).expect("manifest");
        let manifest: toml::Table = manifest.parse().expect("valid TOML");
        let used =
            manifest.get("dependencies").and_then(|d| d.as_table()).cloned().unwrap_or_default();
        for dependency in used.keys().filter(|d| ours.contains(d.as_str())) {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{name} must not depend on {dependency}"
            );
        }
    }
    assert_eq!(seen, ours, "a row in EDGES without a crate");
}

#[test]
fn only_one_file_names_a_database_driver() {
    fn walk(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).expect("folder") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs")
                && std::fs::read_to_string(&path).expect("source").contains("sqlx::")
            {
                let relative = path.strip_prefix(crates()).expect("below crates");
                found.insert(relative.to_string_lossy().into_owned());
            }
        }
    }
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(crates()).expect("crates folder") {
        walk(&entry.expect("entry").path().join("src"), &mut found);
    }
    found.retain(|file| !file.starts_with("store/src/db"));
    assert_eq!(found, BTreeSet::new());
}
