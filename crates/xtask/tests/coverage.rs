//! docs/coverage.md names tests that exist, all defects, and all tests of defects.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Defects of the list.
const DEFECTS: usize = 41;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("source");
            found.push((path.to_string_lossy().into_owned(), text));
        }
    }
}

/// What stands between backquotes in a line.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

#[test]
fn the_note_about_coverage_is_true() {
    let note = std::fs::read_to_string(root().join("docs/coverage.md")).expect("the note");
    let mut all = Vec::new();
    sources(&root().join("crates"), &mut all);
    let (mut wrong, mut named, mut defects) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for line in note.lines().filter(|line| line.starts_with("| ")) {
        let before = named.len();
        let mut proofs = 0;
        for word in quoted(line) {
            if let Some((file, test)) = word.split_once("::") {
                let end = format!("/{file}");
                let signature = format!("fn {test}()");
                let exists = all
                    .iter()
                    .any(|(path, text)| path.ends_with(&end) && text.contains(&signature));
                if !exists {
                    wrong.push(format!("there is no test {word}"));
                }
                named.insert(test.to_owned());
                proofs += 1;
            } else if word.starts_with("conformance/") {
                if !root().join(word).exists() {
                    wrong.push(format!("there is no file {word}"));
                }
                proofs += 1;
            }
        }
        let heading = line.contains("---")
            || line.contains("tests |")
            || line.contains("what is wrong there");
        if proofs == 0 && before == named.len() && !heading {
            wrong.push(format!("a line without a test: {line}"));
        }
        let number = line.trim_start_matches("| ").split(' ').next();
        defects.extend(number.and_then(|number| number.parse::<usize>().ok()));
    }
    if defects != (1..=DEFECTS).collect() {
        wrong.push(format!("the defects are {defects:?}"));
    }
    for (path, text) in &all {
        for line in text.lines().map(str::trim) {
            let Some(rest) = line.strip_prefix("fn defect_") else { continue };
            let test = format!("defect_{}", rest.split('(').next().unwrap_or_default());
            if !named.contains(&test) {
                wrong.push(format!("{test} in {path} is not in the note"));
            }
        }
    }
    assert!(wrong.is_empty(), "docs/coverage.md:\n{}", wrong.join("\n"));
}
