//! Where this host gets Debian 12 from: whatever its apt is configured with.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

/// The suites that make up Debian 12.
const SUITES: [&str; 3] = ["bookworm", "bookworm-updates", "bookworm-security"];

/// Lines for a `sources.list` with Debian 12's main component.
///
/// # Errors
/// The host has no source for Debian 12.
pub fn sources(etc_apt: &Path) -> Result<Vec<String>> {
    let mut found = BTreeMap::new();
    for (name, text) in files(etc_apt) {
        let entries = if name.ends_with(".sources") { deb822(&text) } else { one_line(&text) };
        for (uri, suite) in entries {
            if let Some(suite) = SUITES.into_iter().find(|known| *known == suite) {
                found.entry(suite).or_insert(uri);
            }
        }
    }
    if !found.contains_key(SUITES[0]) {
        bail!(
            "{} has no source for Debian 12 ({}); the lab's image and kernel come from there",
            etc_apt.display(),
            SUITES[0]
        );
    }
    Ok(found.into_iter().map(|(suite, uri)| format!("deb {uri} {suite} main")).collect())
}

fn files(etc_apt: &Path) -> Vec<(String, String)> {
    let parts = fs::read_dir(etc_apt.join("sources.list.d")).into_iter().flatten().flatten();
    let mut paths: Vec<_> = parts.map(|entry| entry.path()).collect();
    paths.sort();
    paths.insert(0, etc_apt.join("sources.list"));
    paths
        .into_iter()
        .filter_map(|path| {
            let name = path.file_name()?.to_string_lossy().into_owned();
            let wanted = name.ends_with(".list") || name.ends_with(".sources");
            wanted.then(|| fs::read_to_string(&path).ok()).flatten().map(|text| (name, text))
        })
        .collect()
}

/// `deb [options] URI SUITE COMPONENT…`
fn one_line(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for line in text.lines() {
        let Some(rest) = line.trim().strip_prefix("deb ") else { continue };
        let rest = rest.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']').map_or("", |(_, rest)| rest),
            None => rest,
        };
        let words: Vec<_> = rest.split('#').next().unwrap_or("").split_whitespace().collect();
        if let [uri, suite, components @ ..] = words.as_slice()
            && components.contains(&"main")
        {
            found.push(((*uri).to_owned(), (*suite).to_owned()));
        }
    }
    found
}

/// Paragraphs of `Field: values`, as in `*.sources`.
fn deb822(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for paragraph in text.split("\n\n") {
        let mut fields: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        let mut current = String::new();
        for line in paragraph.lines().filter(|line| !line.starts_with('#')) {
            let values = if line.starts_with([' ', '\t']) {
                line
            } else if let Some((name, values)) = line.split_once(':') {
                current = name.trim().to_ascii_lowercase();
                values
            } else {
                continue;
            };
            fields.entry(current.clone()).or_default().extend(values.split_whitespace());
        }
        let field = |name: &str| fields.get(name).map(Vec::as_slice).unwrap_or_default();
        let off = field("enabled").contains(&"no");
        if off || !field("types").contains(&"deb") || !field("components").contains(&"main") {
            continue;
        }
        for uri in field("uris") {
            for suite in field("suites") {
                found.push(((*uri).to_owned(), (*suite).to_owned()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, text: &str, expected: &[&str]) {
        let folder = tempfile::tempdir().expect("folder");
        fs::create_dir(folder.path().join("sources.list.d")).expect("folder");
        fs::write(folder.path().join(name), text).expect("write");
        match sources(folder.path()) {
            Ok(found) => assert_eq!(found, expected),
            Err(error) => assert!(expected.is_empty(), "{error}"),
        }
    }

    #[test]
    fn the_new_form() {
        check(
            "sources.list.d/debian.sources",
            "Types: deb\n# old\nURIs: http://archive.example/debian\nSuites: bookworm bookworm-updates\n\
             Components: main\nSigned-By: /usr/share/keyrings/x.gpg\n\nTypes: deb deb-src\n\
             URIs: http://archive.example/security\nSuites:\n bookworm-security\nComponents: main contrib\n\n\
             Types: deb\nURIs: https://other.example\nSuites: nodistro\nComponents: main\n",
            &[
                "deb http://archive.example/debian bookworm main",
                "deb http://archive.example/security bookworm-security main",
                "deb http://archive.example/debian bookworm-updates main",
            ],
        );
    }

    #[test]
    fn the_old_form() {
        check(
            "sources.list",
            "# comment\ndeb [arch=amd64 signed-by=/x] http://archive.example/debian bookworm main contrib\n\
             deb-src http://archive.example/debian bookworm main\ndeb http://other.example stable main\n",
            &["deb http://archive.example/debian bookworm main"],
        );
    }

    #[test]
    fn another_distribution_is_refused() {
        check("sources.list", "deb http://archive.example/debian trixie main\n", &[]);
        check("sources.list", "deb [arch=amd64\ndeb\n", &[]);
    }
}
