//! The wall clock. Certificates and tokens need it to be roughly right, people want it exactly.

use std::net::{ToSocketAddrs as _, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_settime};

/// Seconds between 1900, from which NTP counts, and 1970.
const NTP_EPOCH: u64 = 2_208_988_800;
/// Less is not worth a jump.
const TOLERANCE: Duration = Duration::from_millis(500);

/// Asks the servers one after the other and sets the clock by the first that answers; returns what was done.
#[must_use]
pub fn set(servers: &[String]) -> Option<String> {
    servers.iter().find_map(|server| {
        let now = SystemTime::now();
        let answer = ask(server).ok()?;
        let difference = answer.duration_since(now).unwrap_or_else(|early| early.duration());
        if difference < TOLERANCE {
            return Some(format!("the clock agrees with {server}"));
        }
        step(answer)?;
        Some(format!("the clock was {:.1} s away from {server}", difference.as_secs_f64()))
    })
}

fn step(to: SystemTime) -> Option<()> {
    let since = to.duration_since(UNIX_EPOCH).ok()?;
    let time = Timespec {
        tv_sec: i64::try_from(since.as_secs()).ok()?,
        tv_nsec: since.subsec_nanos().into(),
    };
    clock_settime(ClockId::Realtime, time).ok()
}

fn ask(server: &str) -> std::io::Result<SystemTime> {
    let nobody = || std::io::Error::other("no address");
    let address = (server, 123).to_socket_addrs()?.next().ok_or_else(nobody)?;
    let socket = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.set_read_timeout(Some(Duration::from_millis(700)))?;
    socket.connect(address)?;
    let mut question = [0; 48];
    question[0] = 0b00_100_011; // version 4, client
    socket.send(&question)?;
    let mut answer = [0; 128];
    let length = socket.recv(&mut answer)?;
    read(&answer[..length]).ok_or_else(|| std::io::Error::other("no usable answer"))
}

/// The server's time in its answer (RFC 5905); `None` when it does not know the time itself.
#[must_use]
pub fn read(answer: &[u8]) -> Option<SystemTime> {
    let (leap, mode, stratum) = (answer.first()? >> 6, answer.first()? & 7, *answer.get(1)?);
    if leap == 3 || mode != 4 || stratum == 0 || stratum > 15 {
        return None;
    }
    let seconds = u64::from(u32::from_be_bytes(answer.get(40..44)?.try_into().ok()?));
    let fraction = u64::from(u32::from_be_bytes(answer.get(44..48)?.try_into().ok()?));
    // the counter starts anew in 2036: small numbers are after that
    let seconds = if seconds < NTP_EPOCH { seconds + (1 << 32) } else { seconds };
    let nanos = u32::try_from((fraction * 1_000_000_000) >> 32).ok()?;
    Some(UNIX_EPOCH + Duration::new(seconds - NTP_EPOCH, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(first: u8, stratum: u8, seconds: u32, fraction: u32) -> Vec<u8> {
        let mut bytes = vec![0; 48];
        (bytes[0], bytes[1]) = (first, stratum);
        bytes[40..44].copy_from_slice(&seconds.to_be_bytes());
        bytes[44..].copy_from_slice(&fraction.to_be_bytes());
        bytes
    }

    #[test]
    fn times() {
        let read =
            |bytes: &[u8]| read(bytes).map(|t| t.duration_since(UNIX_EPOCH).unwrap().as_secs_f64());
        assert_eq!(read(&answer(0x24, 2, 3_977_500_000, 1 << 31)), Some(1_768_511_200.5));
        assert_eq!(read(&answer(0x24, 2, 1, 0)), Some(((1_u64 << 32) - NTP_EPOCH + 1) as f64));
        assert_eq!(read(&answer(0xe4, 2, 3_977_500_000, 0)), None, "it is not synchronised");
        assert_eq!(read(&answer(0x24, 0, 3_977_500_000, 0)), None, "kiss of death");
        assert_eq!(read(&answer(0x23, 2, 3_977_500_000, 0)), None, "a question");
        assert_eq!(read(&[]), None);
    }
}
