//! Shared libraries of programs, as the host's dynamic loader finds them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Libraries of all these programs together. Scripts and static programs have none.
///
/// # Errors
/// `ldd` is missing, or it does not find a library.
pub(crate) fn libraries<'a>(
    programs: impl IntoIterator<Item = &'a PathBuf>,
) -> Result<BTreeSet<PathBuf>> {
    // it ends with 1 when one of them has none, so its status tells nothing
    let output = Command::new("ldd")
        .args(programs)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .context("cannot start ldd")?;
    parse(&String::from_utf8_lossy(&output.stdout))
}

/// Adds what is loaded by programs at run time and may need libraries, too.
///
/// # Errors
/// A folder cannot be read.
pub(crate) fn find(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            find(&entry.path(), found)?;
        } else if entry.path().extension().is_some_and(|extension| extension == "so") {
            found.push(entry.path());
        }
    }
    Ok(())
}

/// Lines `name => /path (address)` or `/path (address)`; `/path:` is the program that the next ones are about.
fn parse(text: &str) -> Result<BTreeSet<PathBuf>> {
    let mut libraries = BTreeSet::new();
    for line in text.lines() {
        if line.ends_with("not found") {
            bail!("a library is missing: {}", line.trim());
        }
        let word = line.split_whitespace().find(|word| word.starts_with('/'));
        libraries.extend(word.filter(|word| !word.ends_with(':')).map(PathBuf::from));
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_is_a_library_too() {
        let text = "/usr/bin/a:\n\tlinux-vdso.so.1 (0x00007ffe)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n/usr/bin/b:\n\tstatically linked\n";
        let found = parse(text).expect("complete");
        let wanted = ["/lib/x/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert!(found.iter().map(PathBuf::as_path).eq(wanted.map(Path::new)));
        parse("\tlibx.so.1 => not found\n").expect_err("missing");
    }

    #[test]
    fn a_real_program_has_libc() {
        let found = libraries([&PathBuf::from("/bin/sh")]).expect("ldd");
        assert!(found.iter().any(|path| path.ends_with("libc.so.6")), "{found:?}");
    }
}
