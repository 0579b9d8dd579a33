//! `TaskService`: what the cloud does in the background, for operators.

use std::sync::Arc;

use buffa_types::google::protobuf::Duration;
use connectrpc::Router;
use proto::admin::{self, TaskServiceExt};
use store::job::{self, Job, State};

use super::{App, Call, Error, service};
use crate::wire;
use crate::work::RETENTION_US;

/// So many tasks are listed when nothing is asked for.
const PAGE: u32 = 100;

struct Handler(Arc<App>);

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    Arc::new(Handler(Arc::clone(app))).register(router)
}

service! { admin::TaskService {
    get(TaskServiceGetRequest) -> TaskServiceGetResponse = get;
    delete(TaskServiceDeleteRequest) -> TaskServiceDeleteResponse = delete;
    queues(TaskServiceQueuesRequest) -> TaskServiceQueuesResponse = queues;
    list(TaskServiceListRequest) -> TaskServiceListResponse = list;
} }

async fn get(
    call: &Call,
    request: admin::TaskServiceGetRequest,
) -> Result<admin::TaskServiceGetResponse, Error> {
    let mut tx = call.read().await?;
    let job = job::get(&mut tx, &request.task_id)
        .await?
        .filter(|job| request.queue.is_empty() || job.queue == request.queue)
        .ok_or_else(|| Error::not_found("task", &request.task_id))?;
    Ok(admin::TaskServiceGetResponse { task: view(job).into(), ..Default::default() })
}

async fn delete(
    call: &Call,
    request: admin::TaskServiceDeleteRequest,
) -> Result<admin::TaskServiceDeleteResponse, Error> {
    let mut tx = call.write().await?;
    let job = job::get_for_update(&mut tx, &request.task_id)
        .await?
        .filter(|job| request.queue.is_empty() || job.queue == request.queue)
        .ok_or_else(|| Error::not_found("task", &request.task_id))?;
    if job.state == State::Active {
        return Err(Error::precondition("the task is being worked on: wait until it has ended"));
    }
    job::delete(&mut tx, &job.id).await?;
    job::wake(&mut tx, &job.queue);
    tx.commit().await?;
    Ok(admin::TaskServiceDeleteResponse::default())
}

async fn queues(
    call: &Call,
    _: admin::TaskServiceQueuesRequest,
) -> Result<admin::TaskServiceQueuesResponse, Error> {
    let mut tx = call.read().await?;
    let queues = job::queues(&mut tx).await?;
    Ok(admin::TaskServiceQueuesResponse { queues, ..Default::default() })
}

async fn list(
    call: &Call,
    request: admin::TaskServiceListRequest,
) -> Result<admin::TaskServiceListResponse, Error> {
    let mut tx = call.read().await?;
    let count = i64::from(request.count.filter(|count| *count > 0).unwrap_or(PAGE));
    // pages count from 1; none means the first
    let page = i64::from(request.page.unwrap_or(1).max(1)) - 1;
    let tasks = job::list(&mut tx, request.queue.as_deref(), count, page * count).await?;
    let tasks = tasks.into_iter().map(view).collect();
    Ok(admin::TaskServiceListResponse { tasks, ..Default::default() })
}

fn view(job: Job) -> admin::TaskInfo {
    let mut task = admin::TaskInfo {
        id: job.id,
        queue: job.queue,
        r#type: job.kind,
        payload: job.payload.into_bytes(),
        state: match (job.state, job.attempts) {
            (State::Pending, 0) => admin::TaskState::Pending,
            (State::Pending, _) => admin::TaskState::Retry,
            (State::Active, _) => admin::TaskState::Active,
            (State::Completed, _) => admin::TaskState::Completed,
            (State::Failed, _) => admin::TaskState::Archived,
        }
        .into(),
        retried: i32::try_from((job.attempts - 1).max(0)).unwrap_or(i32::MAX),
        last_error: job.last_error,
        deadline: wire::timestamp_us(job.deadline_us).into(),
        retention: Duration { seconds: RETENTION_US / 1_000_000, ..Default::default() }.into(),
        group: job.lane,
        result: job.result.into_bytes(),
        ..Default::default()
    };
    if let Some(at) = job.last_failed_at_us {
        task.last_failed_at = wire::timestamp_us(at).into();
    }
    if let Some(at) = job.completed_at_us {
        task.completed_at = wire::timestamp_us(at).into();
    } else {
        task.next_process_at = wire::timestamp_us(job.run_at_us).into();
    }
    task
}
