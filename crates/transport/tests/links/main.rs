//! Links over real sockets.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod evidence;
mod life;
mod openssl;
mod refusals;
mod secure;
mod support;
