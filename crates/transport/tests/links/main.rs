//! Links over real sockets.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod life;
mod openssl;
mod refusals;
mod support;
