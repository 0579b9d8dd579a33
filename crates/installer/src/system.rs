//! What the first process of a system has to do for itself: file systems, modules, the end.

use std::ffi::CString;
use std::fs::{self, File};
use std::path::Path;

use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, finit_module, reboot};

use crate::console::say;

/// Load order of the modules, made together with the initrd: one absolute path per line.
const MODULES: &str = "/etc/modules.list";

/// Mounts what programs expect. What is there already stays.
pub fn mount_all() {
    let quiet = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    for (kind, path, flags) in [
        ("proc", "/proc", quiet),
        ("sysfs", "/sys", quiet),
        ("devtmpfs", "/dev", MountFlags::NOSUID | MountFlags::NOEXEC),
        ("tmpfs", "/run", MountFlags::NOSUID | MountFlags::NODEV),
    ] {
        let _ = fs::create_dir_all(path);
        if let Err(error) = mount(kind, path, kind, flags, None)
            && error != rustix::io::Errno::BUSY
        {
            say(&format!("boot      {path} cannot be mounted: {error}"));
        }
    }
}

/// Loads the modules of the list. One that does not fit this machine is no reason to stop.
pub fn load_modules() {
    let list = fs::read_to_string(MODULES).unwrap_or_default();
    for path in
        list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let loaded = File::open(path)
            .and_then(|file| finit_module(&file, c"", 0).map_err(std::io::Error::from));
        match loaded {
            // the initrd is made for every machine, and this one has no such device
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
            Err(error) => say(&format!("boot      the module {path} cannot be loaded: {error}")),
            Ok(()) => {}
        }
    }
    if Path::new("/sys/firmware/efi/efivars").exists() {
        let _ =
            mount("efivarfs", "/sys/firmware/efi/efivars", "efivarfs", MountFlags::empty(), None);
    }
}

/// The kernel command line with which we were started.
#[must_use]
pub fn command_line() -> String {
    fs::read_to_string("/proc/cmdline").unwrap_or_default().trim().to_owned()
}

/// The release of the running kernel.
#[must_use]
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Starts the kernel that was loaded. Returns only when that fails.
pub fn start_loaded_kernel() -> rustix::io::Errno {
    match reboot(RebootCommand::Kexec) {
        Ok(()) => rustix::io::Errno::INVAL,
        Err(error) => error,
    }
}

/// Restarts the machine. What is not on the disks is lost.
pub fn restart() -> ! {
    rustix::fs::sync();
    loop {
        let _ = reboot(RebootCommand::Restart);
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

/// Mounts a device.
///
/// # Errors
/// What the kernel says.
pub fn mount_device(
    device: &str,
    path: &Path,
    kind: &str,
    flags: MountFlags,
    options: &str,
) -> rustix::io::Result<()> {
    let data = (!options.is_empty()).then(|| CString::new(options).unwrap_or_default());
    mount(device, path, kind, flags, data.as_deref())
}

/// Feeds the watchdog, if the machine has one: a hung installer is restarted instead of staying hung.
pub fn feed_watchdog() {
    let Ok(mut device) = fs::OpenOptions::new().write(true).open("/dev/watchdog") else { return };
    std::thread::spawn(move || {
        loop {
            let _ = std::io::Write::write_all(&mut device, b"\0");
            std::thread::sleep(std::time::Duration::from_secs(10));
        }
    });
}
