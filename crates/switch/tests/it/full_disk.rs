//! A disk that is full: tenants come and go as ever, the control plane hears of it, and room is used once it is there.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use nix::mount::{MsFlags, mount, umount};
use nix::unistd::Uid;
use switch::backend::simulated::Simulated;
use switch::config::Config;

use crate::fake::{Fake, nic};
use crate::running::{Running, eventually, settings};

/// A file system of a few pages.
struct Disk(PathBuf);

impl Disk {
    fn new(folder: &Path) -> Self {
        let nothing = None::<&str>;
        mount(nothing, folder, Some("tmpfs"), MsFlags::empty(), Some("size=64k")).unwrap();
        Self(folder.to_owned())
    }

    /// Not one byte more.
    fn fill(&self) {
        fs::write(self.0.join("ballast"), [0; 64 << 10]).unwrap_err();
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount(&self.0);
    }
}

#[tokio::test]
async fn a_full_disk_stops_nobody() {
    if !Uid::effective().is_root() {
        eprintln!("not run: this needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path());
    let (fake, url) = Fake::start(true).await;
    let config = |url: &str| -> Arc<Config> {
        let text = settings(url, folder.path(), "plain");
        Arc::new(toml::from_str(&text).unwrap())
    };
    let ports = |vrf: Option<&str>| vec![nic("swp1", vrf, &["10.0.0.0/24"])];
    let since = fake.say(1, ports(None), &[]);
    let agent = Running::on(Simulated::new(&["swp1"]), config(&url));
    fake.heartbeat(since, |h| h.error.is_none()).await;

    disk.fill();
    for generation in 2..5 {
        let vrf = format!("vrf{generation}");
        let since = fake.say(generation, ports(Some(&vrf)), &[]);
        let (_, applied) = fake.applied(generation, since).await;
        let told = applied.error.unwrap_or_default();
        assert!(told.contains("cannot be saved") && told.contains("No space left"), "{told}");
    }
    assert_eq!(fake.confirmed().last(), Some(&4));

    let saved = || {
        let text = fs::read_to_string(folder.path().join("desired")).unwrap();
        text.contains("vrf4").then_some(())
    };
    assert_eq!(saved(), None);
    let since = Instant::now();
    disk.empty();
    eventually("saved state", saved).await;
    fake.heartbeat(since, |h| h.error.is_none()).await;
    agent.stop().await;
}
