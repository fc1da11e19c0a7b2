//! What a commit holds: one record after the other.
//!
//! Accounts are named by the order in which they were opened, each side for itself, so that a charge need not
//! repeat addresses. A charge of the four token kinds takes about 60 bytes, 32 of them the request's id.

use ton::Address;
use ton::states::ContractState;
use units::{AdjustedTokens, AdjustedUsage, LogicalTime, NanoTon, RequestId, TransactionHash};

use super::bytes::{Reader, put_address, put_number};
use crate::{Anchor, ClientFunds, Followed, WorkerContract};

/// What a request is billed by. The numbers are those of the format and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BillingKind {
    /// Adjusted tokens of the prompt that no cache answered.
    Prompt = 1,
    /// Adjusted tokens of the prompt from a cache.
    Cached = 2,
    /// Adjusted tokens of the visible answer.
    Completion = 3,
    /// Adjusted tokens generated before it.
    Reasoning = 4,
    /// Images.
    Image = 5,
    /// Seconds of audio.
    AudioSecond = 6,
    /// Tokens embedded.
    EmbeddingToken = 7,
    /// Pixels generated.
    Pixel = 8,
}

impl BillingKind {
    const ALL: [Self; 8] = [
        Self::Prompt,
        Self::Cached,
        Self::Completion,
        Self::Reasoning,
        Self::Image,
        Self::AudioSecond,
        Self::EmbeddingToken,
        Self::Pixel,
    ];

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// What a charge is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bill<'a> {
    /// The client's name for the request.
    pub request: RequestId,
    /// What was delivered, as it was counted; the charge itself is in adjusted tokens and may be capped by a hold.
    /// A quantity of zero is not recorded.
    pub items: &'a [(BillingKind, u64)],
}

impl BillingKind {
    /// The items of a usage of tokens.
    #[must_use]
    pub fn items_of(usage: &AdjustedUsage) -> [(Self, u64); 4] {
        [
            (Self::Prompt, usage.prompt.get()),
            (Self::Cached, usage.cached.get()),
            (Self::Completion, usage.completion.get()),
            (Self::Reasoning, usage.reasoning.get()),
        ]
    }
}

const CLIENT: u8 = 1;
const FUNDS: u8 = 2;
const WORKER: u8 = 3;
const CHARGE: u8 = 4;
// Since version 2.
const CLIENT_CONTRACT: u8 = 5;
const WORKER_CONTRACT: u8 = 6;
const FOLLOWED: u8 = 7;
const ANCHOR: u8 = 8;
const ANCHORED: u8 = 9;

/// A record as it is read back. What a charge is billed by is checked and not kept: the books hold totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Client { client: Address, funds: ClientFunds, brought_forward: AdjustedTokens },
    Funds { client: u64, funds: ClientFunds },
    Worker { worker: Address },
    Charge { client: u64, worker: u64, tokens: AdjustedTokens },
    ClientContract { client: u64, state: ContractState, secret_hash: [u8; 32] },
    WorkerContract { worker: u64, contract: WorkerContract },
    Followed(Followed),
    Anchor { anchor: Anchor },
    Anchored { number: u32 },
}

/// Appends that a client's account is on the books from now on, under the next free number.
pub(crate) fn put_client(
    into: &mut Vec<u8>,
    client: &Address,
    funds: &ClientFunds,
    brought_forward: AdjustedTokens,
) {
    into.push(CLIENT);
    put_address(into, client);
    put_facts(into, funds);
    put_number(into, brought_forward.get());
}

/// Appends newer facts about a client's funds.
pub(crate) fn put_funds(into: &mut Vec<u8>, client: u32, funds: &ClientFunds) {
    into.push(FUNDS);
    put_number(into, client.into());
    put_facts(into, funds);
}

/// Appends that a worker's account is on the books from now on, under the next free number.
pub(crate) fn put_worker(into: &mut Vec<u8>, worker: &Address) {
    into.push(WORKER);
    put_address(into, worker);
}

/// Appends a charge.
pub(crate) fn put_charge(
    into: &mut Vec<u8>,
    (client, worker): (u32, u32),
    tokens: AdjustedTokens,
    bill: &Bill<'_>,
) {
    into.push(CHARGE);
    into.extend(bill.request.as_bytes());
    put_number(into, client.into());
    put_number(into, worker.into());
    put_number(into, tokens.get());
    let items = bill.items.iter().filter(|(_, quantity)| *quantity > 0);
    for (kind, quantity) in items {
        into.push(*kind as u8);
        put_number(into, *quantity);
    }
    into.push(END_OF_ITEMS);
}

/// Appends what else than its funds the chain says about a client's contract.
pub(crate) fn put_client_contract(
    into: &mut Vec<u8>,
    client: u32,
    state: ContractState,
    secret_hash: &[u8; 32],
) {
    into.push(CLIENT_CONTRACT);
    put_number(into, client.into());
    into.push(state.number());
    into.extend(secret_hash);
}

/// Appends what the chain says about a worker's contract.
pub(crate) fn put_worker_contract(into: &mut Vec<u8>, worker: u32, contract: &WorkerContract) {
    into.push(WORKER_CONTRACT);
    put_number(into, worker.into());
    into.push(contract.state.number());
    put_number(into, contract.paid.get());
}

/// Appends that everything up to a transaction of the proxy's contract is in the books.
pub(crate) fn put_followed(into: &mut Vec<u8>, transaction: &Followed) {
    into.push(FOLLOWED);
    put_number(into, transaction.lt.get());
    into.extend(transaction.hash.as_bytes());
}

/// Appends an anchor that will be sent.
pub(crate) fn put_anchor(into: &mut Vec<u8>, anchor: &Anchor) {
    into.push(ANCHOR);
    put_number(into, anchor.number.into());
    into.extend(anchor.hash);
}

/// Appends that the chain has an anchor.
pub(crate) fn put_anchored(into: &mut Vec<u8>, number: u32) {
    into.push(ANCHORED);
    put_number(into, number.into());
}

/// No kind has this number.
const END_OF_ITEMS: u8 = 0;

fn put_facts(into: &mut Vec<u8>, funds: &ClientFunds) {
    for number in [funds.balance.get(), funds.stake.get(), funds.tokens_used.get()] {
        put_number(into, number);
    }
}

impl Record {
    /// Reads the next record; `None` if there is none that this version knows.
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        match reader.byte()? {
            CLIENT => Some(Self::Client {
                client: reader.address()?,
                funds: read_facts(reader)?,
                brought_forward: AdjustedTokens::new(reader.number()?),
            }),
            FUNDS => Some(Self::Funds { client: reader.number()?, funds: read_facts(reader)? }),
            WORKER => Some(Self::Worker { worker: reader.address()? }),
            CHARGE => {
                let _request: [u8; 32] = reader.array()?;
                let (client, worker) = (reader.number()?, reader.number()?);
                let tokens = AdjustedTokens::new(reader.number()?);
                loop {
                    match reader.byte()? {
                        END_OF_ITEMS => return Some(Self::Charge { client, worker, tokens }),
                        kind => (BillingKind::from_number(kind)?, reader.number()?),
                    };
                }
            }
            CLIENT_CONTRACT => Some(Self::ClientContract {
                client: reader.number()?,
                state: ContractState::from_number(reader.byte()?)?,
                secret_hash: reader.array()?,
            }),
            WORKER_CONTRACT => {
                let worker = reader.number()?;
                let state = ContractState::from_number(reader.byte()?)?;
                let contract = WorkerContract { state, paid: AdjustedTokens::new(reader.number()?) };
                Some(Self::WorkerContract { worker, contract })
            }
            FOLLOWED => {
                let lt = LogicalTime::new(reader.number()?);
                Some(Self::Followed(Followed { lt, hash: TransactionHash::new(reader.array()?) }))
            }
            ANCHOR => {
                let number = u32::try_from(reader.number()?).ok()?;
                Some(Self::Anchor { anchor: Anchor { number, hash: reader.array()? } })
            }
            ANCHORED => Some(Self::Anchored { number: u32::try_from(reader.number()?).ok()? }),
            _ => None,
        }
    }
}

fn read_facts(reader: &mut Reader<'_>) -> Option<ClientFunds> {
    Some(ClientFunds {
        balance: NanoTon::new(reader.number()?),
        stake: NanoTon::new(reader.number()?),
        tokens_used: AdjustedTokens::new(reader.number()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_nothing_shorter_does() {
        let tokens = AdjustedTokens::new;
        let funds =
            ClientFunds { balance: NanoTon::new(5), stake: NanoTon::new(700), tokens_used: tokens(9) };
        let (client, worker) = (Address::new(0, [1; 32]), Address::new(-1, [2; 32]));
        let items = [(BillingKind::Prompt, 30), (BillingKind::Cached, 0), (BillingKind::Pixel, 1 << 40)];
        let mut written: [Vec<u8>; 9] = Default::default();
        put_client(&mut written[0], &client, &funds, tokens(300));
        put_funds(&mut written[1], 200, &funds);
        put_worker(&mut written[2], &worker);
        let bill = Bill { request: RequestId::new([3; 32]), items: &items };
        put_charge(&mut written[3], (200, 7), tokens(1000), &bill);
        let contract = WorkerContract { paid: tokens(1 << 40), state: ContractState::Closed };
        let anchor = Anchor { number: 300, hash: [4; 32] };
        put_client_contract(&mut written[4], 200, ContractState::Closing, &[6; 32]);
        put_worker_contract(&mut written[5], 7, &contract);
        let followed = Followed { lt: LogicalTime::new(1 << 50), hash: TransactionHash::new([5; 32]) };
        put_followed(&mut written[6], &followed);
        put_anchor(&mut written[7], &anchor);
        put_anchored(&mut written[8], 300);
        let expected = [
            Record::Client { client, funds, brought_forward: tokens(300) },
            Record::Funds { client: 200, funds },
            Record::Worker { worker },
            Record::Charge { client: 200, worker: 7, tokens: tokens(1000) },
            Record::ClientContract { client: 200, state: ContractState::Closing, secret_hash: [6; 32] },
            Record::WorkerContract { worker: 7, contract },
            Record::Followed(followed),
            Record::Anchor { anchor },
            Record::Anchored { number: 300 },
        ];
        for (bytes, record) in written.iter().zip(expected) {
            let mut reader = Reader::new(bytes);
            assert_eq!(Record::read(&mut reader), Some(record));
            assert!(reader.is_empty());
            for len in 0..bytes.len() {
                assert_eq!(Record::read(&mut Reader::new(&bytes[..len])), None);
            }
        }
        let mut unknown_kind = written[3].clone();
        *unknown_kind.last_mut().unwrap() = 9;
        unknown_kind.extend([1, 0]);
        assert_eq!(Record::read(&mut Reader::new(&unknown_kind)), None);
        assert_eq!(Record::read(&mut Reader::new(&[10, 0, 0])), None);
        let mut unknown_state = written[5].clone();
        unknown_state[2] = 3;
        assert_eq!(Record::read(&mut Reader::new(&unknown_state)), None);
    }

    /// The bound that the design counts with: a large proxy, a long answer.
    #[test]
    fn a_charge_is_small() {
        let usage = AdjustedUsage {
            prompt: AdjustedTokens::new(100_000),
            cached: AdjustedTokens::new(100_000),
            completion: AdjustedTokens::new(100_000),
            reasoning: AdjustedTokens::new(100_000),
        };
        let items = BillingKind::items_of(&usage);
        let mut bytes = Vec::new();
        let bill = Bill { request: RequestId::new([255; 32]), items: &items };
        put_charge(&mut bytes, (1_000_000, 10_000), usage.total().unwrap(), &bill);
        assert!(bytes.len() <= 80, "{} bytes", bytes.len());
    }
}
