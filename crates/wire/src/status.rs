//! Codes of refused queries and failed requests.

/// What went wrong, as a number: `code` of `tcp.queryError` and `error_code` of `…queryAnswerError`.
///
/// Any number may arrive; those that the deployed network uses have names here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StatusCode(i32);

impl StatusCode {
    /// The error was made without a code.
    pub const UNSPECIFIED: Self = Self(0);
    /// The peer failed, whoever is to blame.
    pub const FAILURE: Self = Self(601);
    /// The request is wrong.
    pub const ERROR: Self = Self(602);
    /// The request is wrong, but harmless.
    pub const WARNING: Self = Self(603);
    /// The protocol was violated.
    pub const PROTOCOL_VIOLATION: Self = Self(621);
    /// The peer cannot serve now; it may later.
    pub const NOT_READY: Self = Self(651);
    /// No answer came in time.
    pub const TIMEOUT: Self = Self(652);
    /// The request was given up, for example since a connection closed.
    pub const CANCELLED: Self = Self(653);

    /// The number on the wire.
    pub const fn code(self) -> i32 {
        self.0
    }
}

impl From<i32> for StatusCode {
    fn from(code: i32) -> Self {
        Self(code)
    }
}

impl From<StatusCode> for i32 {
    fn from(status: StatusCode) -> Self {
        status.0
    }
}
