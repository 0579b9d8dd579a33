//! Lists of tenants.

use std::collections::HashMap;

use proto::{admin, api};
use store::Tx;

use super::super::{Call, Error};
use crate::wire;

/// Entries per page when the query does not say.
const PAGE: u64 = 100;

pub(super) async fn of_caller(
    call: &Call,
    request: api::TenantServiceListRequest,
) -> Result<api::TenantServiceListResponse, Error> {
    let query = request.query.as_option();
    if query.is_some_and(|query| query.paging.is_set()) {
        return Err(Error::invalid("paging is for operators: users get all their tenants at once"));
    }
    let mut tx = call.read().await?;
    let tenants = of_user(&mut tx, &call.caller()?.user, query).await?;
    Ok(api::TenantServiceListResponse { tenants, ..Default::default() })
}

/// Tenants in which a user takes part, as far as the user may see them.
pub(in crate::rpc) async fn of_user(
    tx: &mut Tx,
    user: &str,
    query: Option<&api::TenantQuery>,
) -> Result<Vec<api::Tenant>, Error> {
    let roles: HashMap<_, _> = store::tenant::roles_of_user(tx, user).await?.into_iter().collect();
    let guest = i64::from(api::TenantRole::Guest as i32);
    let mut tenants = Vec::new();
    for row in store::tenant::of_user(tx, user).await? {
        let tenant: api::Tenant = wire::decode(&row)?;
        let inside = roles.get(&tenant.login).is_some_and(|role| *role < guest);
        let tenant = if inside { tenant } else { super::for_guests(tenant) };
        if matches(query, &tenant) {
            tenants.push(tenant);
        }
    }
    Ok(tenants)
}

pub(super) async fn all(
    call: &Call,
    request: admin::TenantServiceListRequest,
) -> Result<admin::TenantServiceListResponse, Error> {
    let query = request.query.as_option();
    let paging = query.and_then(|query| query.paging.as_option());
    let number = paging.and_then(|paging| paging.page).unwrap_or(0);
    let count = paging.and_then(|paging| paging.count).filter(|count| *count > 0).unwrap_or(PAGE);
    let mut tx = call.read().await?;
    let rows = store::tenant::TABLE
        .select()
        .eq_opt("id", query.and_then(|query| query.login.as_ref()))
        .all(&mut tx)
        .await?;
    let (tenants, more) = if query.is_some_and(|q| q.name.is_some() || q.labels.is_set()) {
        let mut found = Vec::new();
        for row in &rows {
            let tenant: api::Tenant = wire::decode(row)?;
            if matches(query, &tenant) {
                found.push(tenant);
            }
        }
        let (page, more) = page(&found, number, count);
        (page.to_vec(), more)
    } else {
        let (page, more) = page(&rows, number, count);
        (page.iter().map(wire::decode).collect::<Result<_, _>>()?, more)
    };
    Ok(admin::TenantServiceListResponse {
        tenants,
        next_page: more.then(|| number + 1),
        ..Default::default()
    })
}

/// One page, and whether there is another one behind it.
fn page<T>(all: &[T], number: u64, count: u64) -> (&[T], bool) {
    let bound = |number: u64| {
        usize::try_from(number.saturating_mul(count)).unwrap_or(usize::MAX).min(all.len())
    };
    let (from, to) = (bound(number), bound(number.saturating_add(1)));
    (&all[from..to], to < all.len())
}

/// Whether a tenant is asked for.
fn matches(query: Option<&api::TenantQuery>, tenant: &api::Tenant) -> bool {
    query.is_none_or(|query| {
        wire::asks(query.login.as_ref(), tenant.login.as_str())
            && wire::asks(query.name.as_ref(), tenant.name.as_str())
            && wire::has_labels(tenant.meta.as_option(), query.labels.as_option())
    })
}

#[cfg(test)]
mod tests {
    use super::page;

    #[test]
    fn pages_together_are_everything_and_the_last_one_says_so() {
        let all = [1, 2, 3, 4, 5];
        assert_eq!(page(&all, 0, 2), (&all[0..2], true));
        assert_eq!(page(&all, 1, 2), (&all[2..4], true));
        assert_eq!(page(&all, 2, 2), (&all[4..5], false));
        assert_eq!(page(&all, 0, 5), (&all[..], false));
        assert_eq!(page(&all, u64::MAX, u64::MAX), (&all[5..], false));
    }
}
