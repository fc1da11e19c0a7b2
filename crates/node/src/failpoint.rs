//! Places where tests make the process die or the disk refuse. Without the feature `failpoints` there are none.
//!
//! | role | name | where |
//! | --- | --- | --- |
//! | all | `state-write`, `state-written`, `state-replaced` | before a file of the state folder is written, before it takes the place of the one before, before its folder is flushed |
//! | proxy | `journal-write`, `journal-written`, `journal-synced` | before a commit is written, before it is flushed, before anybody hears of it |
//! | proxy | `segment-begin`, `segment-cut` | while a segment is begun, before an unfinished commit is cut off |
//! | proxy | `snapshot-write`, `books-remove` | while a snapshot is written, before a file is removed |
//! | proxy | `root-keep` | while what a contract follows from is kept |
//! | proxy | `payment-sign` | before a payment is signed |
//! | proxy | `link-answer`, `link-send` | before a query is answered, before a message is sent |
//! | client | `client-query`, `client-request`, `client-part` | before the proxy is asked, before a request or a further part of its query is sent |
//! | client | `client-cancel`, `client-credit` | before a request is given up, before more of an answer is let come |
//! | client | `client-payment` | before a charge is taken over |
//! | worker | `worker-query`, `worker-announce` | before the proxy is asked, before it is told of a change |
//! | worker | `worker-answer`, `worker-end` | before a message of an answer is sent, before its last one or an error |
//! | worker | `worker-credit` | before more of a query is let come |
//! | worker | `worker-payment` | before a payment is taken over |
//! | all with a chain | `orders-write`, `orders-written`, `orders-kept` | before the node wallet's orders are written, before they take the place of those before, before their folder is flushed |
//! | all with a chain | `order-hand-in`, `order-handed-in` | before a signed message is handed in, after a server took it |
//! | all with a chain | `order-found` | before what became of an order is taken in |
//! | proxy | `anchor-begin` | before an anchor of the books is begun |
//! | proxy | `order-sign`, `order-send` | before an order to a contract is signed, before the node wallet gets it |
//! | proxy | `order-ended` | before what became of an order is told |
//! | client | `client-order`, `client-order-ended` | before the node wallet gets an order, before what became of it is told |
//! | worker | `worker-order`, `worker-order-ended` | the same |
//!
//! `segment-len=return(2000)` is no place: it closes segments of a proxy's journal after so many bytes.
//!
//! The action `return(abort)` ends the process as `kill -9` does; any other `return` is an error of the disk where
//! there is one.

pub use chain::failpoint::{hit, number, pass};
