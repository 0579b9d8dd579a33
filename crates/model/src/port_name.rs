//! Names of switch ports in the operating systems of switches: the same front panel port has another name in each.

/// A switch operating system, as far as port names go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// `swp1`, `swp1s0` … `swp1s3`, counted from 1, lanes as a suffix.
    Cumulus,
    /// `Ethernet0`, `Ethernet4`: the number of the first lane.
    Sonic,
}

/// Lanes of a port.
const LANES: u32 = 4;

/// Why a name is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\" is not a port name of this switch operating system", self.0)
    }
}

/// Number of the first lane of a port.
///
/// # Errors
/// The name does not follow the rule.
pub fn line(name: &str, naming: Naming) -> Result<u32, Malformed> {
    let malformed = || Malformed(name.to_owned());
    let number = |text: &str| {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(malformed());
        }
        text.parse::<u32>().map_err(|_| malformed())
    };
    match naming {
        Naming::Sonic => number(name.strip_prefix("Ethernet").ok_or_else(malformed)?),
        Naming::Cumulus => {
            let rest = name.strip_prefix("swp").ok_or_else(malformed)?;
            let (port, lane) = match rest.split_once('s') {
                Some((port, lane)) => (number(port)?, number(lane)?),
                None => (number(rest)?, 0),
            };
            let base = port.checked_sub(1).and_then(|p| p.checked_mul(LANES));
            base.and_then(|base| base.checked_add(lane)).ok_or_else(malformed)
        }
    }
}

/// The name of the same port in another operating system. `all` are the names of all ports in the old one: they tell which
/// ports are broken out.
///
/// # Errors
/// A name does not follow the rule.
pub fn translate(name: &str, all: &[&str], from: Naming, to: Naming) -> Result<String, Malformed> {
    if from == to {
        return Ok(name.to_owned());
    }
    let this = line(name, from)?;
    match to {
        Naming::Sonic => Ok(format!("Ethernet{this}")),
        Naming::Cumulus => {
            let mut broken_out = this % LANES > 0;
            for other in all {
                let other = line(other, from)?;
                broken_out |= other != this && other / LANES == this / LANES;
            }
            let port = this / LANES + 1;
            Ok(if broken_out {
                format!("swp{port}s{}", this % LANES)
            } else {
                format!("swp{port}")
            })
        }
    }
}
