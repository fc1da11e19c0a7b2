//! Version 3: requests as streams that either side can slow down or end. Ours, not part of the deployed network.

use super::TokensUsed;
use crate::macros::tl_struct;

tl_struct! {
    /// A request whose query is too long for one message: the parts that follow continue it.
    pub struct Begin<'a> = stream.begin {
        /// Length of the whole query in bytes.
        query_len: i32,
        /// A boxed [`client.runQueryEx`](crate::client::RunQueryEx) or [`proxy.runQueryEx`](crate::proxy::RunQueryEx)
        /// whose `query` is only the first part.
        run: &'a [u8],
    }
}

tl_struct! {
    /// The next bytes of a query.
    pub struct BodyPart<'a> = stream.bodyPart {
        /// The request.
        request_id: [u8; 32],
        /// Bytes of the query.
        data: &'a [u8],
        /// The query is complete.
        is_last: bool,
    }
}

tl_struct! {
    /// Whoever asked wants no more of the answer.
    #[derive(Copy, Eq)]
    pub struct Cancel = stream.cancel {
        /// The request.
        request_id: [u8; 32],
    }
}

tl_struct! {
    /// The receiver of a query or of an answer takes more of it.
    #[derive(Copy, Eq)]
    pub struct Credit = stream.credit {
        /// The request.
        request_id: [u8; 32],
        /// How much more, in bytes.
        len: i32,
    }
}

tl_struct! {
    /// What an answer that is not complete yet costs so far.
    #[derive(Copy, Eq)]
    pub struct Usage = stream.usage {
        /// The request.
        request_id: [u8; 32],
        /// The cost.
        tokens_used: TokensUsed,
    }
}
