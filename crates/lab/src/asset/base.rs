//! The Debian system that tenants get, before anything of ours is in it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Key, cached, mirror};
use crate::shell;

/// What a tenant's machine needs. `usr-is-merged` keeps `usrmerge` and with it 50 MB of Perl away.
const PACKAGES: &str = "systemd,systemd-sysv,udev,usr-is-merged,openssh-server,iproute2,iputils-ping,frr,kmod,sudo,nftables";

/// Documentation and data that no machine of the lab reads; unpacking them under emulation costs seconds.
const EXCLUDED: [&str; 10] = [
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
    "/usr/share/bash-completion/*",
    "/usr/share/zoneinfo/*",
    "/usr/include/*",
    "/lib/udev/hwdb.d/*",
    "/usr/lib/x86_64-linux-gnu/gconv/*",
];

/// FRR's daemons beside zebra, bgpd, staticd, bfdd and watchfrr.
const UNUSED_DAEMONS: &str = "babeld eigrpd fabricd isisd ldpd nhrpd ospf6d ospfd pathd pbrd pim6d pimd ripd ripngd sharpd vrrpd";

/// What differs per machine or is only of use to apt.
fn clean_up() -> String {
    format!(
        r#"cd "$1" && rm -rf var/lib/apt/lists/* var/cache/* var/log/*.log usr/share/i18n \
        usr/lib/x86_64-linux-gnu/frr/modules/pathd_pcep.so etc/ssh/ssh_host_* etc/ssh/moduli etc/hostname etc/resolv.conf etc/apt/apt.conf.d/99mmdebstrap && \
        cd usr/lib/frr && rm -f {UNUSED_DAEMONS}"#
    )
}

/// The base system as an uncompressed tar.
///
/// # Errors
/// The mirror cannot be reached, or the host has no source for Debian 12.
pub fn base(cache: &Path) -> Result<(PathBuf, bool)> {
    let clean_up = clean_up();
    let key = Key::default().text(PACKAGES).text(&EXCLUDED.join(" ")).text(&clean_up).finish();
    let (folder, from_cache) = cached(cache, "base", &key, |work| build(work, &clean_up))
        .context("cannot make the Debian image")?;
    Ok((folder.join("base.tar"), from_cache))
}

fn build(work: &Path, clean_up: &str) -> Result<()> {
    let mut mmdebstrap =
        shell::command("mmdebstrap", ["--variant=minbase", "--mode=root", "--quiet"]);
    mmdebstrap.arg(format!("--include={PACKAGES}"));
    let options = ["Acquire::Languages \"none\"", "APT::Install-Recommends \"false\""];
    for option in options.into_iter().map(str::to_owned).chain(host_options()) {
        mmdebstrap.arg(format!("--aptopt={option}"));
    }
    for excluded in EXCLUDED {
        mmdebstrap.arg(format!("--dpkgopt=path-exclude={excluded}"));
    }
    mmdebstrap.arg(format!("--customize-hook={clean_up}"));
    mmdebstrap.arg("bookworm").arg(work.join("base.tar"));
    mmdebstrap.args(mirror::sources(Path::new("/etc/apt"))?);
    shell::run(&mut mmdebstrap).map(drop)
}

/// How this host's apt reaches its mirror: proxies and tolerated dates.
fn host_options() -> Vec<String> {
    let text = shell::run(&mut shell::command("apt-config", ["dump"])).unwrap_or_default();
    text.lines()
        .filter(|line| {
            let name = line.split_whitespace().next().unwrap_or_default();
            name.contains("::Proxy") || name.starts_with("Acquire::Check-")
        })
        .map(|line| line.trim_end_matches(';').to_owned())
        .collect()
}
