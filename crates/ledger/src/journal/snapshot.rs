//! Snapshots: the books in one file that stands for all segments before it.
//!
//! ```text
//! header     as in a segment, with the position where the journal continues
//! clients 8, workers 8
//! client     address 33, balance 8, stake 8, used on chain 8, brought forward 8, charged 8, seen 1, secret's hash 32
//! worker     address 33, earned 8, brought forward 8, seen 1, paid 8
//! followed: logical time 8 (0 for none), hash 32
//! confirmed anchors 8 (0 or 1), pending anchors 8
//! anchor     number 4, hash 32, charges before it 8
//! signature  64, over SHA-256 of everything before it
//! ```
//! `seen` is 0 if the chain has not shown the contract, else its state and 1. Version 1 has neither it nor what follows
//! it in an account, nor a worker's tokens brought forward, nor what comes after the accounts.

use ed25519_dalek::{SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use ton::states::ContractState;
use units::{AdjustedTokens, LogicalTime, NanoTon, TransactionHash};

use super::books::{Books, ClientEntry, WorkerEntry};
use super::bytes::{ADDRESS_LEN, Reader, put_address};
use super::header::{FileKind, HEADER_LEN, VERSION, put_header, read_header};
use super::segment::{SIGNATURE_LEN, is_signed, sign};
use super::{Identity, JournalError};
use crate::anchor::Intent;
use crate::{Anchor, ClientFunds, Followed, WorkerContract};

const CLIENT_LEN: usize = CLIENT_LEN_V1 + 1 + 32;
const CLIENT_LEN_V1: usize = ADDRESS_LEN + 5 * 8;
const WORKER_LEN: usize = WORKER_LEN_V1 + 8 + 1 + 8;
const WORKER_LEN_V1: usize = ADDRESS_LEN + 8;
const COUNTS_LEN: usize = 2 * 8;

impl Books {
    /// The books as a snapshot, signed by the machine key.
    #[must_use]
    pub fn to_snapshot(&self, key: &SigningKey) -> Vec<u8> {
        let (clients, workers) = self.accounts_len();
        let accounts = clients.saturating_mul(CLIENT_LEN).saturating_add(workers.saturating_mul(WORKER_LEN));
        let around = HEADER_LEN.saturating_add(COUNTS_LEN).saturating_add(SIGNATURE_LEN);
        let mut bytes = Vec::with_capacity(accounts.saturating_add(around));
        put_header(&mut bytes, FileKind::Snapshot, self.identity(), self.position());
        bytes.extend((clients as u64).to_le_bytes());
        bytes.extend((workers as u64).to_le_bytes());
        for ClientEntry { owner, funds, brought_forward, charged, state, secret_hash, is_on_chain } in
            &self.clients
        {
            put_address(&mut bytes, owner);
            let ClientFunds { balance, stake, tokens_used } = funds;
            let money = [balance, stake].map(|amount| amount.get());
            let tokens = [tokens_used, brought_forward, charged].map(|tokens| tokens.get());
            for number in money.into_iter().chain(tokens) {
                bytes.extend(number.to_le_bytes());
            }
            bytes.push(seen(is_on_chain.then_some(*state)));
            bytes.extend(secret_hash);
        }
        for WorkerEntry { owner, earned, brought_forward, contract } in &self.workers {
            put_address(&mut bytes, owner);
            bytes.extend(earned.get().to_le_bytes());
            bytes.extend(brought_forward.get().to_le_bytes());
            bytes.push(seen(contract.map(|contract| contract.state)));
            bytes.extend(contract.unwrap_or_default().paid.get().to_le_bytes());
        }
        let followed = self.followed.map(|followed| (followed.lt.get(), *followed.hash.as_bytes()));
        let (lt, hash) = followed.unwrap_or_default();
        bytes.extend(lt.to_le_bytes());
        bytes.extend(hash);
        bytes.extend((self.confirmed.iter().len() as u64).to_le_bytes());
        bytes.extend((self.pending.len() as u64).to_le_bytes());
        for Intent { anchor, tokens } in self.confirmed.iter().chain(&self.pending) {
            bytes.extend(anchor.number.to_le_bytes());
            bytes.extend(anchor.hash);
            bytes.extend(tokens.get().to_le_bytes());
        }
        let signature = sign(key, &Sha256::digest(&bytes).into());
        bytes.extend(signature);
        bytes
    }

    /// Reads a snapshot of `identity`'s books, signed by `key`.
    ///
    /// # Errors
    /// [`JournalError`] if it is not what was written.
    pub fn from_snapshot(
        snapshot: &[u8],
        identity: Identity,
        key: &VerifyingKey,
    ) -> Result<Self, JournalError> {
        let (at, version) = read_header(snapshot, FileKind::Snapshot, &identity)?;
        let needed = HEADER_LEN.saturating_add(COUNTS_LEN).saturating_add(SIGNATURE_LEN) as u64;
        let short = || JournalError::Short { needed, found: snapshot.len() as u64 };
        let (content, signature) = snapshot.split_last_chunk::<SIGNATURE_LEN>().ok_or_else(short)?;
        if !is_signed(key, &Sha256::digest(content).into(), signature) {
            return Err(JournalError::Signature { offset: content.len() as u64 });
        }

        let mut reader = Reader::new(content.get(HEADER_LEN..).ok_or_else(short)?);
        let mut books = Self::at(identity, at);
        // Signed, so these are the numbers that were written; the length is checked all the same.
        let is_old = version < VERSION;
        read_accounts(&mut reader, &mut books, is_old)
            .and_then(|()| if is_old { Some(()) } else { read_chain(&mut reader, &mut books) })
            .filter(|()| reader.is_empty())
            .ok_or(JournalError::Damaged { what: "the list of accounts", offset: HEADER_LEN as u64 })?;
        books.tokens = books.check_sums()?;
        Ok(books)
    }
}

/// A contract's state in one byte: 0 if the chain has not shown it.
fn seen(state: Option<ContractState>) -> u8 {
    state.map_or(0, |state| state.number().saturating_add(1))
}

fn read_seen(reader: &mut Reader<'_>) -> Option<Option<ContractState>> {
    match reader.byte()?.checked_sub(1) {
        None => Some(None),
        Some(number) => ContractState::from_number(number).map(Some),
    }
}

fn read_accounts(reader: &mut Reader<'_>, books: &mut Books, is_old: bool) -> Option<()> {
    let clients = usize::try_from(reader.u64()?).ok()?;
    let workers = usize::try_from(reader.u64()?).ok()?;
    let (client_len, worker_len) =
        if is_old { (CLIENT_LEN_V1, WORKER_LEN_V1) } else { (CLIENT_LEN, WORKER_LEN) };
    let needed = clients.checked_mul(client_len)?.checked_add(workers.checked_mul(worker_len)?)?;
    if needed > reader.left() {
        return None;
    }
    books.clients.reserve_exact(clients);
    for _ in 0..clients {
        let mut entry = ClientEntry {
            owner: reader.address()?,
            funds: ClientFunds {
                balance: NanoTon::new(reader.u64()?),
                stake: NanoTon::new(reader.u64()?),
                tokens_used: AdjustedTokens::new(reader.u64()?),
            },
            brought_forward: AdjustedTokens::new(reader.u64()?),
            charged: AdjustedTokens::new(reader.u64()?),
            state: ContractState::Normal,
            secret_hash: [0; 32],
            is_on_chain: false,
        };
        if !is_old {
            let state = read_seen(reader)?;
            entry.is_on_chain = state.is_some();
            entry.state = state.unwrap_or_default();
            entry.secret_hash = reader.array()?;
        }
        books.clients.push(entry);
    }
    books.workers.reserve_exact(workers);
    for _ in 0..workers {
        let (owner, earned) = (reader.address()?, AdjustedTokens::new(reader.u64()?));
        let (mut brought_forward, mut contract) = (AdjustedTokens::ZERO, None);
        if !is_old {
            brought_forward = AdjustedTokens::new(reader.u64()?);
            let (state, paid) = (read_seen(reader)?, AdjustedTokens::new(reader.u64()?));
            contract = state.map(|state| WorkerContract { paid, state });
        }
        books.workers.push(WorkerEntry { owner, earned, brought_forward, contract });
    }
    Some(())
}

fn read_chain(reader: &mut Reader<'_>, books: &mut Books) -> Option<()> {
    let (lt, hash) = (LogicalTime::new(reader.u64()?), TransactionHash::new(reader.array()?));
    books.followed = (lt > LogicalTime::new(0)).then_some(Followed { lt, hash });
    let (confirmed, pending) = (reader.u64()?, reader.u64()?);
    if confirmed > 1 {
        return None;
    }
    for _ in 0..confirmed {
        books.confirmed = Some(read_intent(reader)?);
    }
    // Grows only with what is really there.
    for _ in 0..pending {
        books.pending.push(read_intent(reader)?);
    }
    Some(())
}

fn read_intent(reader: &mut Reader<'_>) -> Option<Intent> {
    let anchor = Anchor { number: reader.u32()?, hash: reader.array()? };
    Some(Intent { anchor, tokens: AdjustedTokens::new(reader.u64()?) })
}
