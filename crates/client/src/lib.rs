//! Typed client of the API: token, retry, resumed streams.
