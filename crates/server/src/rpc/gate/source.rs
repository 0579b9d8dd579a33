//! From which address a call comes.

use std::net::IpAddr;

use ipnet::IpNet;

/// The address of the caller. What a header says counts only as far as trusted proxies wrote it: anybody can send headers.
///
/// `peer` is the other end of the connection, `forwarded` the values of `X-Forwarded-For` in their order.
pub(crate) fn of<'a>(
    peer: Option<IpAddr>,
    forwarded: impl IntoIterator<Item = &'a str>,
    trusted: &[IpNet],
) -> Option<IpAddr> {
    let mut source = peer?.to_canonical();
    let hops: Vec<_> = forwarded.into_iter().flat_map(|value| value.split(',')).collect();
    for hop in hops.into_iter().rev() {
        if !trusted.iter().any(|net| net.contains(&source)) {
            break;
        }
        match hop.trim().parse::<IpAddr>() {
            Ok(address) => source = address.to_canonical(),
            Err(_) => break,
        }
    }
    Some(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(peer: &str, forwarded: &[&str], trusted: &[&str], expected: &str) {
        let trusted: Vec<_> = trusted.iter().map(|net| net.parse().expect("a network")).collect();
        let source =
            of(Some(peer.parse().expect("an address")), forwarded.iter().copied(), &trusted);
        assert_eq!(source.map(|a| a.to_string()).as_deref(), Some(expected));
    }

    #[test]
    fn only_trusted_proxies_speak_for_others() {
        check("192.0.2.1", &[], &[], "192.0.2.1");
        check("::ffff:192.0.2.1", &[], &[], "192.0.2.1");
        check("192.0.2.1", &["198.51.100.7"], &[], "192.0.2.1");
        check("10.0.0.1", &["198.51.100.7"], &["10.0.0.0/8"], "198.51.100.7");
        check("10.0.0.1", &["6.6.6.6, 198.51.100.7"], &["10.0.0.0/8"], "198.51.100.7");
        check("10.0.0.1", &["6.6.6.6", "198.51.100.7, 10.0.0.2"], &["10.0.0.0/8"], "198.51.100.7");
        check("10.0.0.1", &["nonsense"], &["10.0.0.0/8"], "10.0.0.1");
        check("10.0.0.1", &[], &["10.0.0.0/8"], "10.0.0.1");
        assert_eq!(of(None, [], &[]), None);
    }
}
