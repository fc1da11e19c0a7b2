//! The payload of a frame.

use crate::TlStr;
use crate::macros::tl_enum;

tl_enum! {
    /// The one object that every frame carries. Which of them may come when is for the connection to judge.
    pub enum Packet<'a> {
        /// First frame of the connecting side.
        Connect = tcp.connect {
            /// Random.
            id: i64,
        },
        /// First frame of the accepting side.
        Connected = tcp.connected {
            /// The id of the `Connect` that it answers.
            id: i64,
        },
        /// Asks for a sign of life.
        Ping = tcp.ping {
            /// Random.
            id: i64,
        },
        /// A sign of life.
        Pong = tcp.pong {
            /// The id of the `Ping` that it answers.
            id: i64,
        },
        /// A one-way message.
        Packet = tcp.packet {
            /// A boxed object.
            data: &'a [u8],
        },
        /// A message that wants an answer.
        Query = tcp.query {
            /// Random, unique among the asker's open queries on this connection.
            id: i64,
            /// A boxed function.
            data: &'a [u8],
        },
        /// The result of a query.
        QueryAnswer = tcp.queryAnswer {
            /// The id of the query.
            id: i64,
            /// The boxed result.
            data: &'a [u8],
        },
        /// A refused query.
        QueryError = tcp.queryError {
            /// The id of the query.
            id: i64,
            /// See [`crate::StatusCode`].
            code: i32,
            /// For people to read.
            message: TlStr<'a>,
        },
    }
}
