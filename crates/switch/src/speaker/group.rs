//! The group of LLDP. A card passes on what is sent to it only when somebody says so; members of a bridge get everything, and
//! without this a port would be deaf as soon as it is in the VRF of a tenant.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;

/// Of interface, kind of membership, length of the address, and the address with two bytes of room.
#[repr(C)]
struct Membership(i32, u16, u16, [u8; 8]);

/// Tells the card with this number that frames for the group are wanted as long as the socket is there. May be told again.
pub(super) fn join(socket: BorrowedFd<'_>, interface: usize) -> io::Result<()> {
    let interface = i32::try_from(interface).map_err(io::Error::other)?;
    let [a, b, c, d, e, f] = lldp::DESTINATION;
    let kind = libc::PACKET_MR_MULTICAST as u16;
    let membership = Membership(interface, kind, 6, [a, b, c, d, e, f, 0, 0]);
    #[expect(unsafe_code, reason = "no crate offers this option of packet sockets")]
    // SAFETY: the socket is open, and the kernel reads as many bytes as the membership has
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            (&raw const membership).cast(),
            size_of::<Membership>() as u32,
        )
    };
    Errno::result(result)?;
    Ok(())
}
