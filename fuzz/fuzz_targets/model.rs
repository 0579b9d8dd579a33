//! Every text that the rules read: ids of images, constraints, prefixes, keys of addresses, names of ports, firewall rules.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model::filesystem_layout::Claims;
use model::image::{Name, Versions};
use model::port_name::{Naming, line, translate};
use model::size::Glob;
use model::{firewall, prefix, size_image_constraint};

fuzz_target!(|text: &str| {
    let lines: Vec<&str> = text.split('\n').collect();
    let second = lines.get(1).copied().unwrap_or_default();
    for one in &lines {
        let name = Name::parse(one);
        if let (Ok(name), Ok(versions)) = (&name, Versions::parse(second)) {
            let _ = versions.contain(name.version);
        }
        let _ = size_image_constraint::Constraint::parse(one, second);
        if let Some(glob) = Glob::parse(one) {
            let _ = glob.matches(second);
        }
        if let Ok(net) = prefix::canonical(one) {
            assert_eq!(net.to_string(), *one, "what is canonical is written alike");
        }
        if let Some(address) = prefix::from_key(one) {
            assert_eq!(prefix::from_key(&prefix::key(address)), Some(address));
        }
        for (from, to) in [(Naming::Sonic, Naming::Cumulus), (Naming::Cumulus, Naming::Sonic)] {
            let _ = line(one, from);
            let _ = translate(one, &lines, from, to);
        }
    }
    let texts: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    if let Ok(nets) = prefix::canonicals(&texts) {
        let _ = prefix::overlapping(&nets);
    }
    let rule = firewall::Rule {
        name: "rule 1",
        has_protocol: true,
        ports: &[80],
        cidrs: &texts,
        comment: lines[0],
    };
    let _ = firewall::check(&rule);
    if let Ok(claims) = Claims::parse(lines.iter().copied(), [(lines[0], second)]) {
        if let Ok(name) = Name::parse(second) {
            let _ = claims.matches(lines[0], &name.os, name.version);
        }
    }
});
