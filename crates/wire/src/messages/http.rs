//! An HTTP exchange as objects: what the `query` and `answer` bytes of the other namespaces hold.

use crate::TlStr;
use crate::macros::tl_struct;

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
