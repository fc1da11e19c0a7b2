//! The anchor: what the chain knows of these books, so that older ones are noticed.
//!
//! A disk put back to an older state is a valid journal of that time, and a copied one is a second valid journal. So
//! now and then the proxy has its own contract shown an [`Anchor`], a number and 32 random bytes, which the journal
//! holds durably before they are sent. Whoever finds an anchor on the chain that its books do not hold has older books, or
//! those of a copy, and must not sign.
//!
//! What is not anchored can be lost without being noticed. So the ledger lets only so much be signed beyond the last
//! confirmed anchor, and nothing beyond what it was recovered with before this process has an anchor of its own: two
//! processes with the same books cannot both sign for new work. A proxy without new charges sends no anchor at all.

use units::AdjustedTokens;

use crate::Ledger;
use crate::journal::CommitNumber;

/// What the chain is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Rises by one with each, from 1 over the life of the books.
    pub number: u32,
    /// Random; only who holds these books knows it before the chain does.
    pub hash: [u8; 32],
}

/// An anchor on the chain that these books do not hold: they are not the newest, or not the only ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the chain has anchor {} of this proxy's books, which these books do not hold", .0.number)]
pub struct ForeignAnchor(pub Anchor);

/// An anchor that was recorded, with what it protects: every total that these books held before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Intent {
    pub(crate) anchor: Anchor,
    /// The sum of all charges at that moment.
    pub(crate) tokens: AdjustedTokens,
}

/// The anchors of one ledger.
#[derive(Debug, Default)]
pub(crate) struct Anchors {
    pub(crate) confirmed: Option<Intent>,
    /// Recorded and not seen on the chain yet, in rising order.
    pub(crate) pending: Vec<Intent>,
    /// `None` while no chain is followed: then everything durable may be signed.
    session: Option<Session>,
}

/// One process at work on the books.
#[derive(Debug)]
struct Session {
    /// How much may be signed beyond the newest anchor.
    at_risk_max: AdjustedTokens,
    /// The sum of all charges when the session began.
    recovered: AdjustedTokens,
    /// Its anchor on the way to the chain, and the commit that holds it.
    sending: Option<(Intent, CommitNumber)>,
    /// The sum of all charges at its newest confirmed anchor.
    protected: Option<AdjustedTokens>,
}

impl Session {
    /// The sum of charges up to which totals may be signed.
    fn limit(&self) -> AdjustedTokens {
        let beyond = |tokens: AdjustedTokens| tokens.checked_add(self.at_risk_max);
        self.protected
            .map_or(self.recovered, |tokens| beyond(tokens).unwrap_or(AdjustedTokens::new(u64::MAX)))
    }
}

impl Ledger {
    /// Follows a chain from now on: at most `at_risk_max` adjusted tokens are signed beyond the newest anchor, and
    /// nothing new before this process has one of its own. To be called once, on fresh or recovered books.
    pub fn follow_chain(&mut self, at_risk_max: AdjustedTokens) {
        let recovered = self.sums.clients_charged;
        let session = Session { at_risk_max, recovered, sending: None, protected: None };
        let limit = session.limit();
        self.anchors.session = Some(session);
        self.recorder.follow(limit);
    }

    /// Whether there is enough at risk for an anchor, and none on its way: half of what may be, or the first charge of
    /// this process.
    #[must_use]
    pub fn wants_anchor(&self) -> bool {
        let Some(session) = &self.anchors.session else { return false };
        let now = self.sums.clients_charged;
        let half = AdjustedTokens::new(session.at_risk_max.get() / 2);
        session.sending.is_none()
            && match session.protected {
                Some(protected) => now.saturating_sub(protected) > half,
                None => now > session.recovered,
            }
    }

    /// Records the next anchor, `random`. It goes to the chain once [`Self::anchor_to_send`] has it.
    pub fn begin_anchor(&mut self, random: [u8; 32]) {
        let newest = self.anchors.pending.last().or(self.anchors.confirmed.as_ref());
        let number = newest.map_or(0, |intent| intent.anchor.number).saturating_add(1);
        let intent = Intent { anchor: Anchor { number, hash: random }, tokens: self.sums.clients_charged };
        let Some(session) = &mut self.anchors.session else { return };
        let commit = self.recorder.note_anchor(&intent.anchor);
        session.sending = Some((intent, commit));
        self.anchors.pending.push(intent);
    }

    /// The anchor that this process has to get onto the chain. `None` if there is none, or it is not durable yet.
    #[must_use]
    pub fn anchor_to_send(&self) -> Option<Anchor> {
        let (intent, commit) = self.anchors.session.as_ref()?.sending?;
        self.recorder.is_commit_durable(commit).then_some(intent.anchor)
    }

    /// The chain shows an anchor of this proxy's books.
    ///
    /// # Errors
    /// [`ForeignAnchor`] if these books do not hold it. Nothing may be signed then.
    pub fn anchor_seen(&mut self, anchor: Anchor) -> Result<(), ForeignAnchor> {
        let anchors = &mut self.anchors;
        if anchors.confirmed.is_some_and(|confirmed| confirmed.anchor == anchor) {
            return Ok(());
        }
        let place = anchors.pending.iter().position(|intent| intent.anchor == anchor);
        let intent = *place.and_then(|place| anchors.pending.get(place)).ok_or(ForeignAnchor(anchor))?;
        anchors.confirm(intent);
        self.recorder.note_anchored(anchor.number);
        if let Some(session) = &mut anchors.session
            && let Some((sending, _)) = session.sending
            && sending == intent
        {
            session.sending = None;
            session.protected = Some(intent.tokens);
            let limit = session.limit();
            self.recorder.raise_limit(limit);
        }
        Ok(())
    }

    /// Whether so much waits for an anchor that nothing more should be taken on: as much again as may be signed
    /// beyond one.
    #[must_use]
    pub fn is_anchor_late(&self) -> bool {
        let Some(session) = &self.anchors.session else { return false };
        self.sums.clients_charged.saturating_sub(session.limit()) > session.at_risk_max
    }

    /// The number of the newest anchor that the chain has confirmed; 0 before the first.
    #[must_use]
    pub fn anchored(&self) -> u32 {
        self.anchors.confirmed.map_or(0, |intent| intent.anchor.number)
    }
}

impl Anchors {
    pub(crate) const fn recovered(confirmed: Option<Intent>, pending: Vec<Intent>) -> Self {
        Self { confirmed, pending, session: None }
    }

    /// An anchor and with it all before it are of the past.
    pub(crate) fn confirm(&mut self, intent: Intent) {
        self.pending.retain(|pending| pending.anchor.number > intent.anchor.number);
        self.confirmed = Some(intent);
    }
}
