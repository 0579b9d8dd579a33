//! Names of network namespaces that only one leaf knows.
//!
//! A leaf of the fabric `netns` has a network namespace per tenant, and its routing daemons take every name below
//! `/run/netns` for a VRF. So each leaf sees a `/run/netns` of its own: a mount namespace that [`FOLDER`] keeps alive.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns, unshare};

use crate::topology::{LEAVES, Leaf};
use crate::{netns, shell};

/// Where mount namespaces of leaves are kept.
pub const FOLDER: &str = "/run/mlab";

/// The file that stands for a leaf's mount namespace.
pub fn file(leaf: Leaf) -> PathBuf {
    Path::new(FOLDER).join(leaf.name())
}

/// The file that stands for the exit's mount namespace.
pub fn exit() -> PathBuf {
    Path::new(FOLDER).join("exit")
}

/// Makes the mount namespaces of the leaves and of the exit.
///
/// # Errors
/// Not root.
pub fn make() -> Result<()> {
    fs::create_dir_all(FOLDER)?;
    // One that is shared with others cannot keep a mount namespace.
    mount_at(FOLDER)?;
    for file in LEAVES.map(file).into_iter().chain([exit()]) {
        File::create(&file)?;
        alone(|| {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none)?;
            mount_at(netns::FOLDER)?;
            let own = File::open("/proc/thread-self/ns/mnt")?;
            alone_with(&own, &file)
        })
        .with_context(|| format!("cannot make the names of {}", file.display()))?;
    }
    Ok(())
}

fn mount_at(folder: &str) -> Result<()> {
    let none = None::<&str>;
    mount(Some("mlab"), folder, Some("tmpfs"), MsFlags::empty(), none)?;
    mount(none, folder, none, MsFlags::MS_PRIVATE, none)?;
    Ok(())
}

/// Gives the namespace a name where everybody finds it, that is in the mount namespace of process 1's children: the
/// thread that made it is inside and cannot.
fn alone_with(own: &File, file: &Path) -> Result<()> {
    use std::os::fd::AsRawFd;
    // The file is open in this process, so the way to it works from the outside, too.
    let from = format!("/proc/{}/fd/{}", std::process::id(), own.as_raw_fd());
    let outside = File::open(format!("/proc/{}/ns/mnt", std::process::id()))?;
    alone(|| {
        unshare(CloneFlags::CLONE_FS)?;
        setns(outside, CloneFlags::CLONE_NEWNS)?;
        mount(Some(from.as_str()), file, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(())
    })
}

/// Whether there is anything.
pub fn there() -> bool {
    Path::new(FOLDER).exists()
}

/// Removes them; namespaces that have no other name go with them.
///
/// # Errors
/// Somebody else uses the folder.
pub fn remove() -> Result<()> {
    while there() && umount2(FOLDER, MntFlags::MNT_DETACH).is_ok() {}
    if there() {
        fs::remove_dir(FOLDER).with_context(|| format!("cannot remove {FOLDER}"))?;
    }
    Ok(())
}

/// Moves the calling thread to the names of a leaf. Paths are relative to where they were.
///
/// # Errors
/// There is no such leaf, or its thread shares its folder with others.
pub fn enter(file: &Path) -> Result<()> {
    let folder = std::env::current_dir()?;
    let names = File::open(file).with_context(|| format!("{} is not there", file.display()))?;
    setns(names, CloneFlags::CLONE_NEWNS)
        .with_context(|| format!("cannot enter {}", file.display()))?;
    Ok(std::env::set_current_dir(folder)?)
}

/// Does `work` in the namespace of that name on a leaf.
///
/// # Errors
/// There is no such namespace, or what the work says.
pub fn within<T: Send>(
    leaf: Leaf,
    space: &str,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    by(&file(leaf), || {
        netns::enter(space)?;
        work()
    })
}

/// Does `work` with these names, in the network namespace of the caller.
///
/// # Errors
/// There are no such names, or what the work says.
pub fn by<T: Send>(file: &Path, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    alone(|| {
        unshare(CloneFlags::CLONE_FS)?;
        enter(file)?;
        work()
    })
}

/// The VRF that a port is in; none when it is in the underlay, or nowhere.
///
/// # Errors
/// The leaf cannot be entered.
pub fn vrf_of(leaf: Leaf, port: &str) -> Result<Option<String>> {
    if !file(leaf).exists() {
        return Ok(None);
    }
    alone(|| {
        unshare(CloneFlags::CLONE_FS)?;
        enter(&file(leaf))?;
        // One that is being removed is not the one.
        let has = |vrf: &String| netns::enter(vrf).is_ok() && if_nametoindex(port).is_ok();
        Ok(vrfs()?.into_iter().find(has))
    })
}

/// What is done here moves the thread that does it.
fn alone<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(work);
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// VRFs of a leaf.
///
/// # Errors
/// The leaf cannot be entered.
pub fn list(leaf: Leaf) -> Result<Vec<String>> {
    alone(|| {
        unshare(CloneFlags::CLONE_FS)?;
        enter(&file(leaf))?;
        vrfs()
    })
}

fn vrfs() -> Result<Vec<String>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(netns::FOLDER)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("vrf") {
            all.push(name);
        }
    }
    all.sort();
    Ok(all)
}

/// Takes all VRFs of a leaf away as a reboot does: their ports are down in the underlay afterwards. Returns their names.
///
/// # Errors
/// The leaf cannot be entered, or a port does not move.
pub fn clear(leaf: Leaf) -> Result<Vec<String>> {
    let home = File::open(netns::file(&leaf.namespace()))?;
    alone(|| {
        unshare(CloneFlags::CLONE_FS)?;
        enter(&file(leaf))?;
        let all = vrfs()?;
        for vrf in &all {
            netns::within(vrf, || back(&home))?;
            shell::run(&mut shell::command("ip", ["netns", "del", vrf]))?;
        }
        Ok(all)
    })
}

/// Moves the ports of this namespace home; what the leaf's agent made here goes with the namespace.
fn back(home: &File) -> Result<()> {
    use std::os::fd::AsRawFd;
    let home = format!("/proc/{}/fd/{}", std::process::id(), home.as_raw_fd());
    for interface in nix::net::if_::if_nameindex()?.iter() {
        let name = interface.name().to_string_lossy().into_owned();
        if name.starts_with("swp") {
            shell::run(&mut shell::command("ip", ["link", "set", &name, "netns", &home]))?;
        } else if name.starts_with("vni") {
            // whoever has the namespace open keeps its id taken
            shell::run(&mut shell::command("ip", ["link", "del", &name]))?;
        }
    }
    Ok(())
}
