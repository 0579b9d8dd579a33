//! What the audit log keeps of a call.

use connectrpc::{ConnectError, Payload};
use proto::method::{Auditing, Method, Visibility};
use store::audit::Entry;
use uuid::Uuid;

use crate::audit::{self, Audit};
use crate::auth::{self, Caller, Scope};
use crate::rpc::Error;

/// The first entry of a call, from which the second one is made.
pub(super) struct Trail {
    request: Entry,
}

const REQUEST: i64 = 1;
const RESPONSE: i64 = 2;

impl Trail {
    /// Records that a call came, if its method is to be recorded.
    pub(super) async fn begin(
        log: &Audit,
        method: &'static Method,
        caller: Option<&Caller>,
        subject: &str,
        source: Option<std::net::IpAddr>,
        request: Option<&Payload>,
    ) -> Result<Option<Self>, Error> {
        if method.auditing == Auditing::Excluded {
            return Ok(None);
        }
        let (tenant, project) = acts_in(log, method, caller, subject).await?;
        let request = Entry {
            call: Uuid::now_v7().to_string(),
            phase: REQUEST,
            at_us: now_us(),
            caller: caller.map(|caller| caller.user.clone()).unwrap_or_default(),
            tenant,
            project,
            method: method.path.to_owned(),
            source: source.map(|source| source.to_string()).unwrap_or_default(),
            code: None,
            body: audit::body(request.and_then(method.request_json)),
        };
        log.record(request.clone()).await?;
        Ok(Some(Self { request }))
    }

    /// Records how the call ended.
    pub(super) async fn end(
        self,
        log: &Audit,
        method: &'static Method,
        answer: Result<Option<&Payload>, &ConnectError>,
    ) {
        let (code, body) = match answer {
            Ok(response) => (0, response.and_then(method.response_json)),
            Err(error) => (i64::from(error.code.grpc_code()), Some(of_error(error))),
        };
        let response = Entry {
            phase: RESPONSE,
            at_us: now_us(),
            code: Some(code),
            body: audit::body(body),
            ..self.request
        };
        let call = response.call.clone();
        if let Err(error) = log.record(response).await {
            // what was done cannot be undone
            tracing::error!(%error, call, method = method.path, "the end of a call is not in the audit log");
        }
    }
}

/// In which tenant and project a call acts.
async fn acts_in(
    log: &Audit,
    method: &Method,
    caller: Option<&Caller>,
    subject: &str,
) -> Result<(String, Option<String>), Error> {
    Ok(match auth::scope(method) {
        Scope::Project if !subject.is_empty() => {
            (log.tenant_of(subject).await?, Some(subject.to_owned()))
        }
        Scope::Tenant => (subject.to_owned(), None),
        Scope::Project => (String::new(), None),
        Scope::Global if method.visibility == Visibility::Self_ => {
            (caller.map(|caller| caller.user.clone()).unwrap_or_default(), None)
        }
        Scope::Global => (String::new(), None),
    })
}

fn of_error(error: &ConnectError) -> serde_json::Value {
    serde_json::json!({
        "code": error.code.as_str(),
        "message": error.message.as_deref().unwrap_or_default(),
    })
}

fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}
