//! What the `check` command of a process finds: one line per requirement, as soon as it was looked at.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

/// What was found so far.
#[derive(Debug, Default)]
#[must_use = "it knows how the check ends"]
pub struct Findings {
    bad: usize,
}

impl Findings {
    /// Prints what came of looking at `what`.
    pub fn say(&mut self, what: &str, result: Result<String>) {
        match result {
            Ok(detail) => println!("ok    {what}: {detail}"),
            Err(error) => {
                self.bad += 1;
                println!("bad   {what}: {error:#}");
            }
        }
    }

    /// 1 when a requirement is not met.
    #[must_use]
    pub fn end(self) -> ExitCode {
        if self.bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// A file with something in it.
///
/// # Errors
/// It cannot be read, or is empty.
pub fn readable(path: &Path) -> Result<String> {
    let content =
        std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    ensure!(!content.trim_ascii().is_empty(), "{} is empty", path.display());
    Ok(path.display().to_string())
}

/// A folder in which files can be made; the folder itself is, too.
///
/// # Errors
/// It cannot be made or written.
pub fn writable(folder: &Path) -> Result<String> {
    let try_out = || {
        std::fs::create_dir_all(folder)?;
        let probe = folder.join("probe");
        std::fs::write(&probe, "")?;
        std::fs::remove_file(probe)
    };
    try_out().with_context(|| format!("{} cannot be written", folder.display()))?;
    Ok(folder.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_thing_is_enough() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "\n").unwrap();
        let missing = readable(&folder.path().join("nothing")).unwrap_err().to_string();
        assert!(missing.ends_with("nothing cannot be read"), "{missing}");
        assert!(readable(&file).unwrap_err().to_string().ends_with("is empty"));
        assert!(writable(&file).unwrap_err().to_string().ends_with("cannot be written"));

        let mut findings = Findings::default();
        findings.say("state_dir", writable(&folder.path().join("a/b")));
        assert_eq!(findings.bad, 0);
        findings.say("token_file", readable(&file));
        findings.say("state_dir", writable(folder.path()));
        assert_eq!(findings.bad, 1);
    }
}
