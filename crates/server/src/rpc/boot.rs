//! `BootService`: what a machine says between power-on and its operating system.

use std::sync::Arc;

use connectrpc::Router;

use super::App;

pub(super) fn register(_: &Arc<App>, router: Router) -> Router {
    router
}
