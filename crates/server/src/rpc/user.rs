//! `UserService`: who the caller is.

use std::sync::Arc;

use connectrpc::Router;
use proto::api;
use proto::api::UserServiceExt;

use super::{App, Call, Error, service, tenant};
use crate::wire;

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    Arc::new(Handler(Arc::clone(app))).register(router)
}

struct Handler(Arc<App>);

service!(api::UserService {
    get(UserServiceGetRequest) -> UserServiceGetResponse = get;
});

async fn get(
    call: &Call,
    _: api::UserServiceGetRequest,
) -> Result<api::UserServiceGetResponse, Error> {
    let login = &call.caller()?.user;
    let mut tx = call.read().await?;
    let own = tenant::read(&mut tx, login).await?;
    let tenants = tenant::of_user(&mut tx, login, None).await?;
    let projects = store::project::of_user(&mut tx, login).await?;
    let projects = projects.iter().map(wire::decode).collect::<Result<_, _>>()?;
    let user = api::User {
        login: own.login.clone(),
        name: own.name.clone(),
        email: own.email.clone(),
        avatar_url: own.avatar_url.clone(),
        tenants,
        projects,
        default_tenant: own.into(),
        ..Default::default()
    };
    Ok(api::UserServiceGetResponse { user: user.into(), ..Default::default() })
}
