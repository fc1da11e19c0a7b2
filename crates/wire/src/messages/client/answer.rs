//! Answers to a request.

use crate::TlStr;
use crate::macros::tl_struct;
use crate::messages::TokensUsed;

tl_struct! {
    /// First answer, in protocol 0.
    pub struct QueryAnswer<'a> = client.queryAnswer {
        /// A boxed [`http.response`](crate::http::Response).
        answer: &'a [u8],
        /// No part follows.
        is_completed: bool,
        /// The request.
        request_id: [u8; 32],
        /// The cost so far.
        request_tokens_used: TokensUsed,
    }
}

tl_struct! {
    /// The request failed before its first answer. In protocol 1 and later this is the proxy itself speaking.
    pub struct QueryAnswerError<'a> = client.queryAnswerError {
        /// See [`StatusCode`](crate::StatusCode).
        error_code: i32,
        /// For people to read.
        error: TlStr<'a>,
        /// The request.
        request_id: [u8; 32],
        /// The cost.
        request_tokens_used: TokensUsed,
    }
}

tl_struct! {
    /// A later part, in protocol 0.
    pub struct QueryAnswerPart<'a> = client.queryAnswerPart {
        /// Bytes of the HTTP body.
        answer: &'a [u8],
        /// No part follows.
        is_completed: bool,
        /// The request.
        request_id: [u8; 32],
        /// The cost so far.
        request_tokens_used: TokensUsed,
    }
}

tl_struct! {
    /// The request failed after its first answer. In protocol 1 and later this is the proxy itself speaking.
    pub struct QueryAnswerPartError<'a> = client.queryAnswerPartError {
        /// See [`StatusCode`](crate::StatusCode).
        error_code: i32,
        /// For people to read.
        error: TlStr<'a>,
        /// The request.
        request_id: [u8; 32],
        /// The cost.
        request_tokens_used: TokensUsed,
    }
}

tl_struct! {
    /// First answer, in protocol 1 or later.
    pub struct QueryAnswerEx<'a> = client.queryAnswerEx {
        /// The request.
        request_id: [u8; 32],
        /// A boxed [`http.response`](crate::http::Response).
        answer: &'a [u8],
        #flags,
        @optional {
            /// Present if no part follows.
            0 => final_info: QueryFinalInfo<'a>,
        }
    }
}

tl_struct! {
    /// The worker gave up, in protocol 1 or later. Ends the request.
    pub struct QueryAnswerErrorEx<'a> = client.queryAnswerErrorEx {
        /// The request.
        request_id: [u8; 32],
        /// See [`StatusCode`](crate::StatusCode).
        error_code: i32,
        /// For people to read.
        error: TlStr<'a>,
        #flags,
        @optional {
            /// Normally present.
            0 => final_info: QueryFinalInfo<'a>,
        }
    }
}

tl_struct! {
    /// A later part, in protocol 1 or later.
    pub struct QueryAnswerPartEx<'a> = client.queryAnswerPartEx {
        /// The request.
        request_id: [u8; 32],
        /// Bytes of the HTTP body.
        answer: &'a [u8],
        #flags,
        @optional {
            /// Present if this part is the last.
            0 => final_info: QueryFinalInfo<'a>,
        }
    }
}

tl_struct! {
    /// What proxy and worker tell about a finished request.
    pub struct QueryFinalInfo<'a> = client.queryFinalInfo {
        #flags,
        /// The cost.
        tokens_used: TokensUsed,
        @optional {
            /// Present if the request wanted it.
            0 => debug: DebugInfo<'a>,
            /// Protocol 2 or later.
            1 => times: Times,
        }
    }
}

tl_struct! {
    /// JSON about how the request was handled.
    #[derive(Copy)]
    pub struct DebugInfo<'a> {
        /// By the worker.
        worker_debug: TlStr<'a>,
        /// By the proxy.
        proxy_debug: TlStr<'a>,
    }
}

tl_struct! {
    /// When the request was handled, in Unix seconds of each one's own clock.
    #[derive(Copy)]
    pub struct Times {
        /// The request reached the proxy.
        proxy_start_time: f64,
        /// The proxy sent the last part.
        proxy_end_time: f64,
        /// The request reached the worker.
        worker_start_time: f64,
        /// The worker sent the last part.
        worker_end_time: f64,
    }
}
