//! `VersionService`: which build answers.

use connectrpc::{RequestContext, Response, ServiceRequest, ServiceResult};
use proto::api::{Version, VersionService, VersionServiceGetRequest, VersionServiceGetResponse};

pub(super) struct Handler;

impl VersionService for Handler {
    async fn get(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, VersionServiceGetRequest>,
    ) -> ServiceResult<VersionServiceGetResponse> {
        let version =
            Version { version: env!("CARGO_PKG_VERSION").to_owned(), ..Default::default() };
        Response::ok(VersionServiceGetResponse { version: version.into(), ..Default::default() })
    }
}
