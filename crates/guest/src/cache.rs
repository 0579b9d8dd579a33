//! What is made once and kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// Makes an asset in a folder of its own and gives it its name only when it is complete; an older one with the
/// same prefix goes, so that the cache does not grow for ever.
///
/// # Errors
/// What `make` says; nothing is left then.
pub fn cached(
    cache: &Path,
    prefix: &str,
    key: &str,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<(PathBuf, bool)> {
    let name = cache.join(format!("{prefix}-{key}"));
    if name.exists() {
        return Ok((name, true));
    }
    let work = cache.join(format!(".{prefix}-{key}.{}", std::process::id()));
    remove_tree(&work)?;
    fs::create_dir_all(&work)?;
    if let Err(error) = make(&work) {
        remove_tree(&work).ok();
        return Err(error);
    }
    fs::rename(&work, &name)?;
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        let old = entry.file_name().to_string_lossy().starts_with(&format!("{prefix}-"));
        if old && entry.path() != name {
            remove_tree(&entry.path())?;
        }
    }
    Ok((name, false))
}

/// Removes a folder with all that is in it; none is no error.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asset_is_made_once_and_replaces_its_predecessor() {
        let cache = tempfile::tempdir().expect("folder");
        let make = |folder: &Path| Ok(fs::write(folder.join("file"), "x")?);
        let (old, from_cache) = cached(cache.path(), "image", "1", make).expect("made");
        assert!(!from_cache && old.join("file").exists());
        assert!(cached(cache.path(), "image", "1", make).expect("made").1);
        let (new, _) = cached(cache.path(), "image", "2", make).expect("made");
        assert!(new.exists() && !old.exists());
    }

    #[test]
    fn a_failed_asset_leaves_nothing() {
        let cache = tempfile::tempdir().expect("folder");
        cached(cache.path(), "image", "1", |_| anyhow::bail!("no")).expect_err("fails");
        assert_eq!(fs::read_dir(cache.path()).expect("folder").count(), 0);
    }
}
