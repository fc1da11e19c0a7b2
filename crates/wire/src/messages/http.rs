//! An HTTP exchange as objects: what the `query` and `answer` bytes of the other namespaces hold.

use crate::codec::{Input, Read};
use crate::macros::tl_struct;
use crate::{DecodeError, TlStr, schema};

tl_struct! {
    /// A request to a model server.
    pub struct Request<'a> = http.request {
        /// In capitals, for example `POST`.
        method: TlStr<'a>,
        /// Path, with the query part if any.
        url: TlStr<'a>,
        /// For example `HTTP/1.1`.
        http_version: TlStr<'a>,
        /// In the order sent; names may repeat.
        headers: Vec<Header<'a>>,
        /// The whole body.
        payload: &'a [u8],
    }
}

/// The beginning of a boxed [`Request`], whose body may not have come to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestStart<'a> {
    /// The request; its payload is what has come of it.
    pub request: Request<'a>,
    /// Length of the whole payload in bytes.
    pub payload_len: usize,
}

impl<'a> RequestStart<'a> {
    /// Reads the first bytes of a request that takes `whole_len` bytes in all. Its head must be among them.
    ///
    /// # Errors
    /// [`DecodeError`] if they begin no such request.
    pub fn read(bytes: &'a [u8], whole_len: usize) -> Result<Self, DecodeError> {
        let Some(missing) = whole_len.checked_sub(bytes.len()) else {
            return Err(DecodeError::TrailingBytes { left: bytes.len() - whole_len });
        };
        let mut input = Input::new(bytes);
        let id = u32::read(&mut input)?;
        if id != schema::http::request {
            return Err(DecodeError::UnknownConstructor { id });
        }
        let method = Read::read(&mut input)?;
        let url = Read::read(&mut input)?;
        let http_version = Read::read(&mut input)?;
        let headers = Read::read(&mut input)?;
        let (payload, payload_len) = input.bytes_start(missing)?;
        Ok(Self { request: Request { method, url, http_version, headers, payload }, payload_len })
    }
}

tl_struct! {
    /// The head of a model server's response, with the first bytes of its body.
    pub struct Response<'a> = http.response {
        /// For example `HTTP/1.1`.
        http_version: TlStr<'a>,
        /// For example 200.
        status_code: i32,
        /// The reason phrase.
        reason: TlStr<'a>,
        /// In the order sent; names may repeat.
        headers: Vec<Header<'a>>,
        /// The body, or its beginning where more parts follow.
        payload: &'a [u8],
    }
}

tl_struct! {
    /// One header line.
    pub struct Header<'a> = http.header {
        /// As sent; HTTP compares names without regard to case.
        name: TlStr<'a>,
        /// As sent.
        value: TlStr<'a>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(payload: &[u8]) -> bytes::Bytes {
        let header = Header { name: "Host".into(), value: "cocoon".into() };
        crate::encode(&Request {
            method: "POST".into(),
            url: "/v1/chat/completions".into(),
            http_version: "HTTP/1.1".into(),
            headers: vec![header],
            payload,
        })
    }

    #[test]
    fn every_beginning_that_holds_the_head_is_read_and_every_shorter_one_refused() {
        for payload in [&b""[..], b"x", &[b'x'; 253], &[b'x'; 254], &[b'x'; 1000]] {
            let whole = request(payload);
            let mut is_readable = false;
            for len in 0..=whole.len() {
                let Ok(start) = RequestStart::read(&whole[..len], whole.len()) else {
                    assert!(!is_readable, "{len} bytes are not enough, fewer were");
                    continue;
                };
                is_readable = true;
                assert_eq!(start.payload_len, payload.len());
                assert!(payload.starts_with(start.request.payload));
                assert_eq!(start.request.url, "/v1/chat/completions".into());
            }
            let read = RequestStart::read(&whole, whole.len()).unwrap();
            assert_eq!(Ok(read.request), crate::decode(&whole));
        }
    }

    #[test]
    fn lengths_that_contradict_each_other_are_refused() {
        let whole = request(&[b'x'; 1000]);
        for len in [200, whole.len()] {
            for wrong in [whole.len() - 4, whole.len() + 1, whole.len() + 4, 0, usize::MAX] {
                assert!(RequestStart::read(&whole[..len], wrong).is_err(), "{len} of {wrong}");
            }
        }
        let other = crate::encode(&Header { name: "a".into(), value: "b".into() });
        assert!(matches!(
            RequestStart::read(&other, other.len()),
            Err(DecodeError::UnknownConstructor { .. })
        ));
    }
}
