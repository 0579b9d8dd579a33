//! `SizeService`.

use std::sync::Arc;

use connectrpc::Router;

use super::App;

pub(super) fn register(_: &Arc<App>, router: Router) -> Router {
    router
}
