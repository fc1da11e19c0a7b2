//! Snapshots: the books in one file that stands for all segments before it.
//!
//! ```text
//! header     as in a segment, with the position where the journal continues
//! clients 8, workers 8
//! client     address 33, balance 8, stake 8, used on chain 8, brought forward 8, charged 8
//! worker     address 33, earned 8
//! signature  64, over SHA-256 of everything before it
//! ```

use ed25519_dalek::{SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use units::{AdjustedTokens, NanoTon};

use super::books::{Books, ClientEntry, WorkerEntry};
use super::bytes::{ADDRESS_LEN, Reader, put_address};
use super::header::{FileKind, HEADER_LEN, put_header, read_header};
use super::segment::{SIGNATURE_LEN, is_signed, sign};
use super::{Identity, JournalError};
use crate::ClientFunds;

const CLIENT_LEN: usize = ADDRESS_LEN + 5 * 8;
const WORKER_LEN: usize = ADDRESS_LEN + 8;
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
        for ClientEntry { owner, funds, brought_forward, charged } in &self.clients {
            put_address(&mut bytes, owner);
            let ClientFunds { balance, stake, tokens_used } = funds;
            let money = [balance, stake].map(|amount| amount.get());
            let tokens = [tokens_used, brought_forward, charged].map(|tokens| tokens.get());
            for number in money.into_iter().chain(tokens) {
                bytes.extend(number.to_le_bytes());
            }
        }
        for WorkerEntry { owner, earned } in &self.workers {
            put_address(&mut bytes, owner);
            bytes.extend(earned.get().to_le_bytes());
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
        let at = read_header(snapshot, FileKind::Snapshot, &identity)?;
        let needed = HEADER_LEN.saturating_add(COUNTS_LEN).saturating_add(SIGNATURE_LEN) as u64;
        let short = || JournalError::Short { needed, found: snapshot.len() as u64 };
        let (content, signature) = snapshot.split_last_chunk::<SIGNATURE_LEN>().ok_or_else(short)?;
        if !is_signed(key, &Sha256::digest(content).into(), signature) {
            return Err(JournalError::Signature { offset: content.len() as u64 });
        }

        let mut reader = Reader::new(content.get(HEADER_LEN..).ok_or_else(short)?);
        let mut books = Self::at(identity, at);
        // Signed, so these are the numbers that were written; the length is checked all the same.
        read_accounts(&mut reader, &mut books)
            .filter(|()| reader.is_empty())
            .ok_or(JournalError::Damaged { what: "the list of accounts", offset: HEADER_LEN as u64 })?;
        books.tokens = books.check_sums()?;
        Ok(books)
    }
}

fn read_accounts(reader: &mut Reader<'_>, books: &mut Books) -> Option<()> {
    let clients = usize::try_from(reader.u64()?).ok()?;
    let workers = usize::try_from(reader.u64()?).ok()?;
    let needed = clients.checked_mul(CLIENT_LEN)?.checked_add(workers.checked_mul(WORKER_LEN)?)?;
    if needed != reader.left() {
        return None;
    }
    books.clients.reserve_exact(clients);
    for _ in 0..clients {
        books.clients.push(ClientEntry {
            owner: reader.address()?,
            funds: ClientFunds {
                balance: NanoTon::new(reader.u64()?),
                stake: NanoTon::new(reader.u64()?),
                tokens_used: AdjustedTokens::new(reader.u64()?),
            },
            brought_forward: AdjustedTokens::new(reader.u64()?),
            charged: AdjustedTokens::new(reader.u64()?),
        });
    }
    books.workers.reserve_exact(workers);
    for _ in 0..workers {
        books
            .workers
            .push(WorkerEntry { owner: reader.address()?, earned: AdjustedTokens::new(reader.u64()?) });
    }
    Some(())
}
