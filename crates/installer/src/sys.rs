//! The few system calls that no crate wraps: kexec and the controls of block devices.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::ioctl::{NoArg, Opcode, Setter, ioctl};

/// Loads a kernel that [`rustix::system::reboot`] with `Kexec` starts.
///
/// # Errors
/// What the kernel says: `EPERM` without the right, `ENOEXEC` for a file that is no kernel.
pub fn kexec_file_load(
    kernel: BorrowedFd<'_>,
    initrd: Option<BorrowedFd<'_>>,
    command_line: &CStr,
) -> io::Result<()> {
    /// From `linux/kexec.h`: there is no initial RAM disk.
    const NO_INITRAMFS: libc::c_ulong = 4;
    let flags = if initrd.is_some() { 0 } else { NO_INITRAMFS };
    #[expect(
        unsafe_code,
        reason = "no crate wraps kexec_file_load; all arguments outlive the call"
    )]
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel.as_raw_fd(),
            initrd.map_or(-1, |fd| fd.as_raw_fd()),
            command_line.to_bytes_with_nul().len(),
            command_line.as_ptr(),
            flags,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the kernel read the partition table again. `EBUSY` while a partition is in use.
///
/// # Errors
/// What the kernel says.
pub fn reread_partitions(disk: impl AsFd) -> io::Result<()> {
    const BLKRRPART: Opcode = 0x125f;
    no_argument::<BLKRRPART>(disk.as_fd())
}

/// Writes back and forgets what the page cache knows of a disk.
///
/// # Errors
/// What the kernel says.
pub fn flush_buffers(disk: impl AsFd) -> io::Result<()> {
    const BLKFLSBUF: Opcode = 0x1261;
    no_argument::<BLKFLSBUF>(disk.as_fd())
}

/// Tells the disk that a range (bytes) is no longer needed.
///
/// # Errors
/// `EOPNOTSUPP` where the disk knows no such thing.
pub fn discard(disk: impl AsFd, start: u64, length: u64) -> io::Result<()> {
    const BLKDISCARD: Opcode = 0x1277;
    range::<BLKDISCARD>(disk.as_fd(), start, length)
}

/// As [`discard`], and copies that the disk made are erased too.
///
/// # Errors
/// `EOPNOTSUPP` where the disk knows no such thing.
pub fn secure_discard(disk: impl AsFd, start: u64, length: u64) -> io::Result<()> {
    const BLKSECDISCARD: Opcode = 0x127d;
    range::<BLKSECDISCARD>(disk.as_fd(), start, length)
}

/// Makes a range (bytes) read as zeros, by the disk itself where it can, else by writing.
///
/// # Errors
/// What the kernel says.
pub fn zero_out(disk: impl AsFd, start: u64, length: u64) -> io::Result<()> {
    const BLKZEROOUT: Opcode = 0x127f;
    range::<BLKZEROOUT>(disk.as_fd(), start, length)
}

fn no_argument<const OPCODE: Opcode>(fd: BorrowedFd<'_>) -> io::Result<()> {
    #[expect(
        unsafe_code,
        reason = "the block layer's controls without argument touch no memory of ours"
    )]
    unsafe {
        Ok(ioctl(fd, NoArg::<OPCODE>::new())?)
    }
}

fn range<const OPCODE: Opcode>(fd: BorrowedFd<'_>, start: u64, length: u64) -> io::Result<()> {
    #[expect(
        unsafe_code,
        reason = "the block layer reads exactly two 64-bit numbers: start and length"
    )]
    unsafe {
        Ok(ioctl(fd, Setter::<OPCODE, [u64; 2]>::new([start, length]))?)
    }
}

/// `struct nvme_admin_cmd` of `linux/nvme_ioctl.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct NvmeCommand {
    /// What to do.
    pub opcode: u8,
    flags: u8,
    reserved: u16,
    /// Name space; `0xffff_ffff` means all.
    pub nsid: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    address: u64,
    metadata_length: u32,
    data_length: u32,
    /// First command-specific word.
    pub cdw10: u32,
    cdw11: u32,
    cdw12: u32,
    cdw13: u32,
    cdw14: u32,
    cdw15: u32,
    /// How long the kernel waits for the controller.
    pub timeout_ms: u32,
    result: u32,
}

impl NvmeCommand {
    /// A command with one command-specific word.
    #[must_use]
    pub fn new(opcode: u8, nsid: u32, cdw10: u32, timeout_ms: u32) -> Self {
        Self { opcode, nsid, cdw10, timeout_ms, ..Self::default() }
    }
}

/// Sends an administrative command to an NVMe controller; the answer is written into `data`.
///
/// # Errors
/// What the kernel says. A refusal by the controller is an error with its status as text.
pub fn nvme_admin(device: impl AsFd, mut command: NvmeCommand, data: &mut [u8]) -> io::Result<()> {
    const NVME_IOCTL_ADMIN_CMD: Opcode = 0xc048_4e41;
    command.address = if data.is_empty() { 0 } else { data.as_mut_ptr() as u64 };
    command.data_length = u32::try_from(data.len()).map_err(io::Error::other)?;
    #[expect(
        unsafe_code,
        reason = "the kernel writes at most data_length bytes to address, which is the borrowed slice"
    )]
    let status = unsafe {
        libc::ioctl(device.as_fd().as_raw_fd(), NVME_IOCTL_ADMIN_CMD as _, &raw mut command)
    };
    match status {
        0 => Ok(()),
        status if status > 0 => {
            Err(io::Error::other(format!("the controller answered status {status:#x}")))
        }
        _ => Err(io::Error::last_os_error()),
    }
}
