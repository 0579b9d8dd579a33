//! Tenants, projects, members, invites, users and tokens, over the wire, on SQLite and on PostgreSQL.

#[path = "../../store/tests/it/postgres.rs"]
mod postgres;

#[path = "tenancy/invite.rs"]
mod invite;
#[path = "tenancy/jwt.rs"]
mod jwt;
#[path = "tenancy/key.rs"]
mod key;
#[path = "tenancy/matrix.rs"]
mod matrix;
#[path = "tenancy/project.rs"]
mod project;
#[path = "tenancy/tenant.rs"]
mod tenant;
#[path = "tenancy/token.rs"]
mod token;
#[path = "tenancy/world.rs"]
mod world;
