//! Request bodies: read within limits of size, time and memory.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::EXPECT;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::ServerConfig;
use crate::{ApiError, ErrorKind};

/// Memory is counted in pieces of this many bytes: a semaphore counts to 2^32 only, and often enough is enough.
const PIECE_LEN: usize = 1024;

/// What a body comes to: as it arrived, which is kept until the head of its answer should another proxy have to try,
/// and as a message on its way to a proxy. While one is made of the other there is a third, in one place for each thread.
const COPIES: usize = 2;

/// Room behind a body for a token limit, so that adding one copies nothing.
const ROOM_BEHIND: usize = 64;

/// Memory for a body is taken at once up to this length, and beyond it as the body comes: announcing costs nothing.
const CAPACITY_AT_ONCE_MAX: usize = 1024 * 1024;

/// How slowly a body may come, in bytes per second from its beginning to any moment, once [`RATE_FROM`] is over.
const RATE_MIN: u32 = 8 * 1024;
/// A body has this much time whatever its rate.
const RATE_FROM: Duration = Duration::from_secs(10);

/// The memory of all bodies that have begun to arrive and whose request is not answered yet.
#[derive(Debug)]
pub(super) struct Bodies {
    room: Arc<Semaphore>,
}

/// A whole body, and its share of the memory.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) text: Bytes,
    pub(super) held: Held,
}

/// Some of the memory. Given back when dropped.
#[derive(Debug, Default)]
pub(super) struct Held {
    permit: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    pub(super) fn new(config: &ServerConfig) -> Self {
        let pieces = (config.bodies_len_max / PIECE_LEN).min(Semaphore::MAX_PERMITS);
        Self { room: Arc::new(Semaphore::new(pieces)) }
    }

    /// Makes `held` cover a body of `len` bytes.
    fn cover(&self, held: &mut Held, len: usize) -> Result<(), ApiError> {
        let covered = held.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = len.saturating_mul(COPIES).div_ceil(PIECE_LEN).saturating_sub(covered);
        if missing == 0 {
            return Ok(());
        }
        let full = || ApiError::new(ErrorKind::Overloaded, "too many bytes of request bodies at once");
        let pieces = u32::try_from(missing).map_err(|_more_than_there_can_be| full())?;
        let more = Arc::clone(&self.room).try_acquire_many_owned(pieces).map_err(|_none_left| full())?;
        match &mut held.permit {
            Some(permit) => permit.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }

    /// Reads a whole body.
    ///
    /// # Errors
    /// [`ErrorKind::BodyTooLarge`], [`ErrorKind::BodyIncomplete`] if it does not come to its end in time, and
    /// [`ErrorKind::Overloaded`] if other bodies take the memory.
    pub(super) async fn read<B>(
        &self,
        request: http::Request<B>,
        config: &ServerConfig,
    ) -> Result<Body, ApiError>
    where
        B: http_body::Body<Data = Bytes>,
    {
        let limit = config.body_len_max;
        let too_large = || {
            let message = format!("the body is larger than {limit} bytes");
            ApiError::new(ErrorKind::BodyTooLarge, message)
        };
        let incomplete =
            || ApiError::new(ErrorKind::BodyIncomplete, "the body did not arrive to its end in time");
        let expects_leave = request.headers().contains_key(EXPECT);
        let mut body = pin!(request.into_body());
        let announced = body.size_hint().lower();
        if expects_leave && announced > limit as u64 {
            // The application waits for our word before it sends: it gets a no, and sends nothing.
            return Err(too_large());
        }
        let begin = Instant::now();
        let capacity = usize::try_from(announced).unwrap_or(limit).min(limit);
        let mut text = BytesMut::with_capacity(capacity.min(CAPACITY_AT_ONCE_MAX) + ROOM_BEHIND);
        let mut held = Held::default();
        let mut passed = 0_usize;
        loop {
            let deadline = begin + config.body_timeout.min(time_for(passed));
            let next = timeout_at(deadline, body.frame()).await.map_err(|_elapsed| incomplete())?;
            let Some(frame) = next else { break };
            let Ok(data) = frame.map_err(|_cut| incomplete())?.into_data() else { continue };
            passed = passed.saturating_add(data.len());
            if passed <= limit {
                self.cover(&mut held, passed)?;
                text.extend_from_slice(&data);
            } else if passed > limit.saturating_mul(4) {
                return Err(too_large());
            } else {
                // Between the limit and four times that much, bytes are read and dropped: an application that
                // is still writing when the connection closes never sees why.
                (text, held) = (BytesMut::new(), Held::default());
            }
        }
        if passed > limit { Err(too_large()) } else { Ok(Body { text: text.freeze(), held }) }
    }
}

/// How long a body of which so many bytes have come may be on its way.
fn time_for(passed: usize) -> Duration {
    RATE_FROM.saturating_add(Duration::from_secs(passed as u64) / RATE_MIN)
}
