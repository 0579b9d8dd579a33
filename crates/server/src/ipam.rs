//! Addresses, VRFs and numbers of autonomous systems, taken and given back inside the caller's transaction (docs/adr/0005):
//! what is rolled back was never taken.
//!
//! Locks are held until the transaction ends, so take what many ask for as late as possible. A transaction that waits for
//! another may be told to try again (`aborted`).

use std::collections::HashMap;
use std::net::IpAddr;

use model::ip::MACHINE_LABEL;
use model::pool;
use model::prefix::{Family, families, key, number};
use proto::api;
use store::ip::Taken;
use store::prefix::{self, Prefix, range};
use store::{Entity, Tx, Value};
use uuid::Uuid;

use crate::rpc::{Error, Reason};
use crate::wire;

/// Which address is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Want {
    /// The lowest free one; IPv4 if the network has it, else IPv6.
    #[default]
    Any,
    /// The lowest free one of a family.
    Lowest(Family),
    /// This one.
    Exactly(IpAddr),
}

/// An address that is asked for. Whether the project may have one of the network was decided before.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    /// Project that will hold it.
    pub project: &'a str,
    /// Network that it comes from.
    pub network: &'a str,
    /// Which.
    pub want: Want,
    /// May be empty.
    pub name: &'a str,
    /// May be empty.
    pub description: &'a str,
    /// Whether it outlives the machine; unspecified counts as ephemeral.
    pub kind: api::IPType,
    /// Machine to attach it to.
    pub machine: Option<&'a str>,
    /// Labels beside the one that names the machine.
    pub labels: Option<api::Labels>,
}

/// Takes an address.
///
/// # Errors
/// `not_found` when the network does not exist, `resource_exhausted` when it has no free address, `invalid_argument` when
/// this one is not free or the network has no such family,
/// `failed_precondition` when the project does not exist.
pub async fn acquire(tx: &mut Tx, now_us: i64, request: &Request<'_>) -> Result<api::IP, Error> {
    let prefixes = prefix::of_network(tx, request.network).await?;
    acquire_from(tx, now_us, request, &prefixes).await
}

/// As [`acquire`], by who has read the prefixes of the network already.
///
/// # Errors
/// As [`acquire`].
pub async fn acquire_from(
    tx: &mut Tx,
    now_us: i64,
    request: &Request<'_>,
    prefixes: &[Prefix],
) -> Result<api::IP, Error> {
    if prefixes.is_empty() {
        return Err(Error::not_found("network", request.network));
    }
    let (prefix, address) = match request.want {
        Want::Exactly(address) => (exactly(tx, request.network, prefixes, address).await?, address),
        Want::Any => lowest(tx, request.network, prefixes, None).await?,
        Want::Lowest(family) => lowest(tx, request.network, prefixes, Some(family)).await?,
    };
    let (mut ip, row, columns) = made(request, prefix, address, now_us)?;
    store::ip::TABLE.insert(tx, &row, &columns).await?;
    wire::stamp(&mut ip, &row);
    Ok(ip)
}

/// Takes the lowest free addresses for several requests, in few statements and without waiting for anybody; with each request come the
/// prefixes of its network. Nothing for a request that cannot be fulfilled like this: [`acquire_from`] waits, or tells why.
///
/// # Errors
/// As [`acquire`], then nothing was taken for anybody.
pub async fn acquire_many(
    tx: &mut Tx,
    now_us: i64,
    requests: &[(Request<'_>, &[Prefix])],
) -> Result<Vec<Option<api::IP>>, Error> {
    // a network that is full in its first prefix is left to who looks at all of them
    let places: Vec<_> = requests
        .iter()
        .map(|(request, prefixes)| {
            let family = match request.want {
                Want::Any => None,
                Want::Lowest(family) => Some(family),
                Want::Exactly(_) => return None,
            };
            of_family(prefixes, family).1.first().copied()
        })
        .collect();
    let mut wanted: Vec<(&str, usize)> = Vec::new();
    for place in places.iter().flatten() {
        match wanted.iter_mut().find(|(id, _)| *id == place.id) {
            Some((_, count)) => *count += 1,
            None => wanted.push((&place.id, 1)),
        }
    }
    let numbers = range::take_many(tx, &wanted).await?;
    let mut numbers: HashMap<_, _> =
        wanted.iter().zip(numbers).map(|((id, _), numbers)| (*id, numbers.into_iter())).collect();
    let (mut ips, mut rows) = (Vec::new(), Vec::new());
    for ((request, _), place) in requests.iter().zip(places) {
        let number = place.and_then(|place| numbers.get_mut(place.id.as_str())?.next());
        ips.push(match place.zip(number) {
            Some((prefix, number)) => {
                let address = prefix.block.family.address(number);
                let (mut ip, row, columns) = made(request, prefix, address, now_us)?;
                wire::stamp(&mut ip, &row);
                rows.push((row, columns));
                Some(ip)
            }
            None => None,
        });
    }
    store::ip::insert_all(tx, &rows).await?;
    Ok(ips)
}

/// The address as the contract tells it, and its row with columns.
fn made(
    request: &Request<'_>,
    prefix: &Prefix,
    address: IpAddr,
    now_us: i64,
) -> Result<(api::IP, Entity, [Value; 6]), Error> {
    let mut ip = api::IP {
        uuid: Uuid::now_v7().to_string(),
        ip: address.to_string(),
        name: request.name.to_owned(),
        description: request.description.to_owned(),
        network: request.network.to_owned(),
        project: request.project.to_owned(),
        r#type: match request.kind {
            api::IPType::IP_TYPE_STATIC => api::IPType::IP_TYPE_STATIC.into(),
            _ => api::IPType::IP_TYPE_EPHEMERAL.into(),
        },
        namespace: Some(prefix.namespace.clone()).filter(|namespace| !namespace.is_empty()),
        ..Default::default()
    };
    if let Some(labels) = request.labels.clone().filter(|labels| !labels.labels.is_empty()) {
        ip.meta.get_or_insert_default().labels = labels.into();
    }
    set_machine(&mut ip, request.machine);
    let row = Entity::new(&ip.uuid, wire::encode(&ip)?, now_us);
    let columns = [
        request.project.into(),
        request.network.into(),
        (&prefix.id).into(),
        (&prefix.namespace).into(),
        key(address).into(),
        request.machine.into(),
    ];
    Ok((ip, row, columns))
}

/// Attaches an address that the project holds to a machine. An ephemeral one stays ephemeral: it goes with the machine.
///
/// # Errors
/// `not_found` when the project holds no such address of the network, `invalid_argument` when it is attached already.
pub async fn attach(
    tx: &mut Tx,
    now_us: i64,
    project: &str,
    network: &str,
    ip: &str,
    machine: &str,
) -> Result<api::IP, Error> {
    let address: IpAddr =
        ip.parse().map_err(|_| Error::invalid(format!("\"{ip}\" is not an ip address")))?;
    let taken = store::ip::hold_in_network(tx, network, &key(address)).await?;
    let missing = || Error::missing(format!("no ip {ip} of network {network} in this project"));
    let taken = taken.ok_or_else(missing)?;
    let mut ip: api::IP = wire::decode(&taken.row)?;
    if ip.project != project {
        return Err(missing());
    }
    match machine_of(&ip) {
        Some(other) if other != machine => {
            return Err(Error::invalid(format!("ip {address} is attached to a machine already")));
        }
        Some(_) => return Ok(ip),
        None => {}
    }
    set_machine(&mut ip, Some(machine));
    save(tx, now_us, &taken.row, &ip).await
}

/// Frees the ephemeral addresses of a machine and detaches the static ones. Returns what it had, as it was.
///
/// # Errors
/// The database failed.
pub async fn release_machine(
    tx: &mut Tx,
    machine: &str,
    now_us: i64,
) -> Result<Vec<api::IP>, Error> {
    let mut had = Vec::new();
    for taken in store::ip::hold_of_machine(tx, machine).await? {
        let ip: api::IP = wire::decode(&taken.row)?;
        had.push(ip.clone());
        if ip.r#type == api::IPType::IP_TYPE_EPHEMERAL {
            free(tx, &taken).await?;
        } else {
            let mut ip = ip;
            set_machine(&mut ip, None);
            save(tx, now_us, &taken.row, &ip).await?;
        }
    }
    Ok(had)
}

/// Frees an address whose row is held.
pub(crate) async fn free(tx: &mut Tx, taken: &Taken) -> Result<(), Error> {
    if !store::ip::TABLE.delete(tx, &taken.row.id).await? {
        return Err(Error::aborted("the ip was deleted meanwhile"));
    }
    let address = model::prefix::from_key(&taken.address)
        .ok_or_else(|| Error::internal(format!("stored ip {} is damaged", taken.row.id)))?;
    // network, broadcast and the like were never free: an operator's specific one does not become so
    Ok(range::give(tx, &taken.prefix, number(address)).await?)
}

/// Stores a changed address whose row is held.
pub(crate) async fn save(
    tx: &mut Tx,
    now_us: i64,
    old: &Entity,
    ip: &api::IP,
) -> Result<api::IP, Error> {
    let new = old.next(wire::encode(ip)?, now_us);
    if !store::ip::update(tx, &new, machine_of(ip)).await? {
        return Err(Error::aborted(format!("ip {} was changed meanwhile: retry", ip.ip)));
    }
    wire::decode(&new)
}

/// Machine that an address is attached to.
#[must_use]
pub fn machine_of(ip: &api::IP) -> Option<&str> {
    ip.meta.as_option()?.labels.as_option()?.labels.get(MACHINE_LABEL).map(String::as_str)
}

fn set_machine(ip: &mut api::IP, machine: Option<&str>) {
    let labels = &mut ip.meta.get_or_insert_default().labels;
    match machine {
        Some(machine) => {
            let labels = &mut labels.get_or_insert_default().labels;
            labels.insert(MACHINE_LABEL.to_owned(), machine.to_owned());
        }
        None => {
            if let Some(labels) = labels.as_option_mut() {
                labels.labels.remove(MACHINE_LABEL);
            }
        }
    }
}

/// Whether a network has a free address, of a family or of any.
///
/// # Errors
/// The database failed.
pub async fn has_free(tx: &mut Tx, network: &str, family: Option<Family>) -> Result<bool, Error> {
    for prefix in prefix::of_network(tx, network).await? {
        if family.is_none_or(|family| family == prefix.block.family)
            && range::exists(tx, &prefix.id).await?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn lowest<'a>(
    tx: &mut Tx,
    network: &str,
    prefixes: &'a [Prefix],
    family: Option<Family>,
) -> Result<(&'a Prefix, IpAddr), Error> {
    let (family, of_family) = of_family(prefixes, family);
    if of_family.is_empty() {
        let name = model::network::name_of(family);
        return Err(Error::invalid(format!(
            "there is no prefix for the given addressfamily:{name} present in network:{network}"
        )));
    }
    for prefix in of_family {
        if let Some(number) = range::take(tx, &prefix.id).await? {
            return Ok((prefix, family.address(number)));
        }
    }
    Err(Error::reason(Reason::NoAddressAvailable, format!("no free ips in network {network}"))
        .with("network", network))
}

/// The prefixes of a family; without one: of IPv4 if there are any, else of IPv6.
fn of_family(prefixes: &[Prefix], family: Option<Family>) -> (Family, Vec<&Prefix>) {
    let nets: Vec<_> = prefixes.iter().map(|prefix| prefix.block.net()).collect();
    // families sort IPv4 first
    let first = families(&nets).first().copied().unwrap_or(Family::V4);
    let family = family.unwrap_or(first);
    (family, prefixes.iter().filter(|prefix| prefix.block.family == family).collect())
}

async fn exactly<'a>(
    tx: &mut Tx,
    network: &str,
    prefixes: &'a [Prefix],
    address: IpAddr,
) -> Result<&'a Prefix, Error> {
    let prefix =
        prefixes.iter().find(|prefix| prefix.block.net().contains(&address)).ok_or_else(|| {
            Error::invalid(format!("ip {address} is not inside the prefixes of network {network}"))
        })?;
    let (first, last) = prefix.block.hosts();
    if !(first..=last).contains(&number(address)) {
        return Err(Error::invalid(format!(
            "ip {address} is reserved in {}: take another one",
            prefix.block.net()
        )));
    }
    if range::take_exact(tx, &prefix.id, number(address)).await? {
        Ok(prefix)
    } else {
        Err(Error::invalid(format!("ip {address} is already allocated")))
    }
}

/// Takes a free number for an autonomous system.
///
/// # Errors
/// `resource_exhausted` when none is left.
pub async fn asn(tx: &mut Tx) -> Result<u32, Error> {
    Ok(pool::asn(any(tx, prefix::ASN).await?))
}

/// Gives the number of an autonomous system back; one that is not taken is no error.
///
/// # Errors
/// The database failed.
pub async fn release_asn(tx: &mut Tx, asn: u32) -> Result<(), Error> {
    match pool::asn_number(asn) {
        Some(number) => give(tx, prefix::ASN, number).await,
        None => Ok(()),
    }
}

/// Takes a free VRF.
///
/// # Errors
/// `resource_exhausted` when none is left.
pub async fn vrf(tx: &mut Tx) -> Result<u32, Error> {
    any(tx, prefix::VRF).await
}

/// Takes this VRF.
///
/// # Errors
/// `invalid_argument` when there is no such VRF, `already_exists` when it is taken.
pub async fn exact_vrf(tx: &mut Tx, vrf: u32) -> Result<(), Error> {
    if !pool::VRF.contains(u128::from(vrf)) {
        return Err(Error::invalid(format!(
            "vrf {vrf} is not between {} and {}",
            pool::VRF.first,
            pool::VRF.last
        )));
    }
    if range::take_exact(tx, prefix::VRF, u128::from(vrf)).await?
        && range::note(tx, prefix::VRF, i64::from(vrf)).await?
    {
        Ok(())
    } else {
        Err(Error::exists(format!("vrf {vrf} is already acquired by another network")))
    }
}

/// Gives a VRF back; one that is not taken is no error.
///
/// # Errors
/// The database failed.
pub async fn release_vrf(tx: &mut Tx, vrf: u32) -> Result<(), Error> {
    give(tx, prefix::VRF, vrf).await
}

async fn any(tx: &mut Tx, space: &str) -> Result<u32, Error> {
    let number = range::take(tx, space)
        .await?
        .and_then(|number| u32::try_from(number).ok())
        .ok_or_else(|| {
            let sentence = format!("the pool of {space} numbers is exhausted");
            Error::reason(Reason::NoNumberAvailable, sentence).with("pool", space)
        })?;
    if !range::note(tx, space, i64::from(number)).await? {
        return Err(Error::internal(format!("{space} number {number} was free and taken at once")));
    }
    Ok(number)
}

async fn give(tx: &mut Tx, space: &str, number: u32) -> Result<(), Error> {
    if range::forget(tx, space, i64::from(number)).await? {
        range::give(tx, space, u128::from(number)).await?;
    }
    Ok(())
}
