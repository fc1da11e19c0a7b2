//! The best payment of each proxy, kept in the state folder: what was signed for us is ours after a restart too.
//!
//! One line for each proxy contract: the proxy's key, its contract, our contract, the params version, the totals that
//! the proxy stored and knew, and the payment. Everything but the totals is checked again when it is read.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use ton::Address;
use ton::payment::{self, PaymentKind};
use units::{AdjustedTokens, PublicKey};

use crate::{StateError, StateFolder};

/// What one proxy has promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptPayment {
    /// Signed it.
    pub proxy_key: PublicKey,
    /// The proxy's contract.
    pub proxy: Address,
    /// Our contract under it.
    pub own: Address,
    /// The configuration that both addresses follow from.
    pub params_version: u32,
    /// The payment, as the proxy sent it.
    pub payment: Vec<u8>,
    /// What it is worth: the total since the contract exists.
    pub signed: AdjustedTokens,
    /// The total that the proxy has stored, it says.
    pub stored: AdjustedTokens,
    /// The total that the proxy knows, it says.
    pub known: AdjustedTokens,
}

const FILE: &str = "payments";
const EXPECTED: &str = "payments as this program wrote them";

/// Proxies that are kept. One that makes up contracts without end takes room from those that signed least.
const KEPT_MAX: usize = 1000;

/// At most one write in this time.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

impl StateFolder {
    /// The payments that were kept; none if none ever were. `kind` is what they all are.
    ///
    /// # Errors
    /// [`StateError`] if the file cannot be read or holds anything that is not genuine.
    pub fn kept_payments(&self, kind: PaymentKind) -> Result<Vec<KeptPayment>, StateError> {
        let Some(text) = self.text(FILE)? else { return Ok(Vec::new()) };
        let kept: Option<Vec<_>> = text.lines().map(|line| read(line, kind)).collect();
        let contracts =
            |kept: &[KeptPayment]| kept.iter().map(|kept| kept.proxy).collect::<BTreeSet<_>>().len();
        kept.filter(|kept| contracts(kept) == kept.len())
            .ok_or_else(|| StateError::Content { path: self.path().join(FILE), expected: EXPECTED })
    }

    /// Keeps `payments` durably in place of those before.
    ///
    /// # Errors
    /// [`StateError::Io`] if the disk refuses.
    pub fn keep_payments(&self, mut payments: Vec<KeptPayment>) -> Result<(), StateError> {
        payments.sort_by(|one, other| other.signed.cmp(&one.signed).then(one.proxy.cmp(&other.proxy)));
        let mut text = String::new();
        for kept in payments.iter().take(KEPT_MAX) {
            let KeptPayment { proxy_key, proxy, own, params_version, stored, known, payment, .. } = kept;
            let payment = hex::encode(payment);
            let line =
                writeln!(text, "{proxy_key} {proxy} {own} {params_version} {stored} {known} {payment}");
            line.expect("writing to a string cannot fail");
        }
        self.replace(FILE, text.as_bytes())
    }
}

fn read(line: &str, kind: PaymentKind) -> Option<KeptPayment> {
    let mut fields = line.split(' ');
    let proxy_key: PublicKey = fields.next()?.parse().ok()?;
    let mut address = || Address::parse(fields.next()?).ok().map(|(address, _flags)| address);
    let (proxy, own) = (address()?, address()?);
    let params_version = fields.next()?.parse().ok()?;
    let mut tokens = || fields.next()?.parse().ok().map(AdjustedTokens::new);
    let (stored, known) = (tokens()?, tokens()?);
    let payment = hex::decode(fields.next()?).ok()?;
    if fields.next().is_some() {
        return None;
    }
    let signed = payment::verify(&payment, kind, &own, &proxy_key).ok()?.tokens();
    Some(KeptPayment { proxy_key, proxy, own, params_version, payment, signed, stored, known })
}

/// Writes the payments whenever they have `changed`, for ever, at most once a second.
///
/// A crash takes back what came since the last write. That is no loss: a proxy signs only what it holds durably, and
/// says it again.
pub async fn follow_payments(
    folder: Arc<StateFolder>,
    changed: &Notify,
    payments: impl Fn() -> Vec<KeptPayment>,
) {
    loop {
        changed.notified().await;
        let (folder, payments) = (Arc::clone(&folder), payments());
        let written = tokio::task::spawn_blocking(move || folder.keep_payments(payments)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(error = &error as &dyn std::error::Error, "payments cannot be kept, trying again");
            changed.notify_one();
        }
        tokio::time::sleep(WRITE_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ed25519_dalek::SigningKey;

    use super::*;

    fn who(number: u8) -> Address {
        Address::new(0, [number; 32])
    }

    fn kept(number: u8, tokens: u64) -> KeptPayment {
        let key = SigningKey::from_bytes(&[number; 32]);
        let signed = AdjustedTokens::new(tokens);
        let payment = payment::sign(&key, PaymentKind::WorkerPayout, 7, signed, &who(number), &who(1));
        KeptPayment {
            proxy_key: PublicKey::new(key.verifying_key().to_bytes()),
            proxy: who(100 + number),
            own: who(number),
            params_version: 3,
            payment,
            signed,
            stored: signed,
            known: AdjustedTokens::new(tokens + 5),
        }
    }

    #[test]
    fn payments_come_back() {
        let root = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(root.path()).unwrap();
        assert_eq!(folder.kept_payments(PaymentKind::WorkerPayout).unwrap(), []);
        let payments = vec![kept(1, 30), kept(2, 20)];
        folder.keep_payments(vec![kept(2, 20), kept(1, 30)]).unwrap();
        assert_eq!(folder.kept_payments(PaymentKind::WorkerPayout).unwrap(), payments);
        folder.keep_payments(vec![kept(1, 31)]).unwrap();
        assert_eq!(folder.kept_payments(PaymentKind::WorkerPayout).unwrap(), [kept(1, 31)]);
    }

    #[test]
    fn what_is_not_genuine_is_refused_and_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(root.path()).unwrap();
        folder.keep_payments(vec![kept(1, 30)]).unwrap();
        let refused = |kind| matches!(folder.kept_payments(kind), Err(StateError::Content { .. }));
        assert!(refused(PaymentKind::ClientCharge), "another kind of payment");
        let path = root.path().join(FILE);
        let line = fs::read_to_string(&path).unwrap();
        let other_key =
            line.replacen(&kept(1, 30).proxy_key.to_string(), &kept(2, 1).proxy_key.to_string(), 1);
        let other_contract = line.replacen(&who(1).to_string(), &who(9).to_string(), 1);
        let cut = line[..line.len() / 2].to_owned();
        for text in
            [other_key, other_contract, cut, format!("{line}{line}"), "\n".to_owned(), "no".to_owned()]
        {
            fs::write(&path, &text).unwrap();
            assert!(refused(PaymentKind::WorkerPayout), "{text:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn those_that_signed_most_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(root.path()).unwrap();
        let one = kept(1, 30);
        let many = (0..KEPT_MAX as u64).map(|number| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&number.to_le_bytes());
            KeptPayment { proxy: Address::new(0, hash), ..kept(2, 20) }
        });
        folder.keep_payments(many.chain([one.clone()]).collect()).unwrap();
        let again = folder.kept_payments(PaymentKind::WorkerPayout).unwrap();
        assert_eq!((again.len(), &again[0]), (KEPT_MAX, &one));
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_written_and_many_at_once_are_one_write() {
        let root = tempfile::tempdir().unwrap();
        let folder = Arc::new(StateFolder::open(root.path()).unwrap());
        let changed = Arc::new(Notify::new());
        let (of_task, folder_of_task) = (Arc::clone(&changed), Arc::clone(&folder));
        let (written, mut writes) = tokio::sync::mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let payments = || {
                let _nobody_waits = written.send(());
                vec![kept(1, 30)]
            };
            follow_payments(folder_of_task, &of_task, payments).await;
        });
        changed.notify_one();
        writes.recv().await.unwrap();
        changed.notify_one();
        changed.notify_one();
        writes.recv().await.unwrap();
        // The second write began after the first was on disk.
        assert_eq!(folder.kept_payments(PaymentKind::WorkerPayout).unwrap(), [kept(1, 30)]);
        assert!(writes.try_recv().is_err());
        task.abort();
    }
}
