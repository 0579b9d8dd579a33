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
        // whoever builds a release says which (README.md); nothing is guessed
        let told = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let version = Version {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: told(option_env!("METAL_REVISION")),
            git_sha1: told(option_env!("METAL_GIT_SHA1")),
            build_date: told(option_env!("METAL_BUILD_DATE")),
            ..Default::default()
        };
        Response::ok(VersionServiceGetResponse { version: version.into(), ..Default::default() })
    }
}
